"""`piste hub …` with a switch for faults: `python -m tests.dialects.nix.faulty_hub SWITCH PATIENCE hub …`.

The switch is a file; its word says what fails from now on. Everything else is the hub as it is.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

from piste.cli.main import main
from piste.hub import app, dispatch
from piste.hub.http1 import cycle
from piste.hub.patience import Patience
from piste.hub.storage.base import Location

SWITCH: Final = Path(sys.argv[1] if len(sys.argv) > 1 else "")


class StorageError(OSError):
    """The disk gave nothing."""


def fault() -> str:
    return SWITCH.read_text()


class FaultyDatabase:
    """Passes everything on to the real one, or fails instead."""

    def __init__(self, real: Any) -> None:
        object.__setattr__(self, "_real", real)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._real, name, value)

    async def all(self, sql: str, *values: Any) -> Any:
        await self._perhaps()
        return await self._real.all(sql, *values)

    async def one(self, sql: str, *values: Any) -> Any:
        await self._perhaps()
        return await self._real.one(sql, *values)

    async def scan(self, sql: str, *values: Any) -> Any:
        await self._perhaps()
        return await self._real.scan(sql, *values)

    async def _perhaps(self) -> None:
        if fault() == "database-error":
            raise ConnectionError("the database is away")
        while fault() == "database-hangs":
            await asyncio.sleep(0.05)


class FaultyObjects:
    """Passes everything on to the real store, or gives NARs as a broken one would."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    async def locate(self, key: str) -> Location | None:
        if key.startswith("nar/"):
            match fault():
                case "nar-missing":
                    return None
                case "nar-error":
                    raise StorageError("the disk gave nothing")
        found: Location | None = await self._real.locate(key)
        return found

    async def stream(self, key: str, *, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        whole = b"".join([piece async for piece in self._real.stream(key, start=start, stop=stop)])
        half = len(whole) // 2
        match fault() if key.startswith("nar/") else "":
            case "nar-cut":
                yield whole[:half]
                raise StorageError("the disk gave half of it")
            case "nar-short":
                yield whole[:half]
            case "nar-stalls":
                yield whole[:half]
                while fault() == "nar-stalls":
                    await asyncio.sleep(0.05)
            case "nar-wrong":
                yield whole[:half] + bytes([whole[half] ^ 255]) + whole[half + 1 :]
            case _:
                yield whole


def run() -> None:
    """The command, with the switch within."""
    open_database, open_objects = vars(app)["open_database"], vars(app)["open_objects"]
    patience = float(sys.argv[2])

    async def faulty_database(*arguments: Any) -> Any:
        return FaultyDatabase(await open_database(*arguments))

    def faulty_objects(*arguments: Any) -> Any:
        return FaultyObjects(open_objects(*arguments))

    vars(app).update(open_database=faulty_database, open_objects=faulty_objects)
    cycle.EXTENSIONS.clear()  # the bytes of NARs then pass through `stream`, where they can be spoilt
    vars(dispatch).update(Patience=lambda: Patience(patience))
    sys.argv[1:] = sys.argv[3:]
    main()


if __name__ == "__main__":
    run()
