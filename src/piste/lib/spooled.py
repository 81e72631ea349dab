"""Lists that wait in a file instead of in memory: of each item only the place is held.

The file has no name and goes with its process. Everything here may wait for a disk, so a program with an
event loop uses it in a thread.
"""

import os
import tempfile
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

import msgspec

T = TypeVar("T", bound=msgspec.Struct)

PAGE: Final = 1000  # items of some hundred bytes: much for a database, and little for memory


class Spooled(Generic[T]):
    """A list of Structs of one type; grows at its end."""

    def __init__(self, folder: Path, of: type[T]) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 -- open for as long as the list
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(of)
        self._ends = array("Q", [0])

    def __len__(self) -> int:
        return len(self._ends) - 1

    def add(self, items: Iterable[T]) -> None:
        for item in items:
            data = self._encoder.encode(item)
            self._file.write(data)
            self._ends.append(self._ends[-1] + len(data))
        self._file.flush()

    def __getitem__(self, number: int) -> T:
        start, end = self._ends[number], self._ends[number + 1]
        return self._decoder.decode(os.pread(self._file.fileno(), end - start, start))

    def pages(self) -> Iterator[list[T]]:
        """All of it in order, some at a time."""
        for start in range(0, len(self), PAGE):
            yield [self[number] for number in range(start, min(start + PAGE, len(self)))]

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
