"""A consistent copy of a hub, and the way back. The database first, then the objects: an object never
changes, so what the copied rows speak of is in the copy too.

A backup is complete when `backup.json` is there, which is written last. It holds signing keys: 0600 in 0700.
"""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import msgspec

from piste.hub.db.sqlite import SqliteDatabase
from piste.hub.operations import queries
from piste.hub.services import Services
from piste.hub.settings import Settings
from piste.hub.storage.base import Objects
from piste.hub.storage.open import open_objects
from piste.lib.errors import PisteError, UsageError
from piste.lib.files import sync_folder, write_secret

_DATABASE: Final = "piste.sqlite"
_RECORD: Final = "backup.json"


class Backup(msgspec.Struct, frozen=True):
    """What a backup holds. `database` is None where PostgreSQL's own tools keep it."""

    created_at: int
    engine: str
    database: str | None
    objects: int
    bytes: int


async def back_up(services: Services, target: Path) -> Backup:
    """Copy everything into a folder. In one that holds an earlier backup, objects that are there stay."""
    await asyncio.to_thread(_begin, target)
    now = services.clock()
    database = services.database
    name = None
    if isinstance(database, SqliteDatabase):
        name = _DATABASE
        await asyncio.to_thread(_copy_database, database, target)
    count = size = 0
    async for key in _keys(services.objects):
        copied = await _copy_object(services.objects, key, target / "objects" / key)
        if copied is not None:
            count, size = count + 1, size + copied
    made = Backup(now, services.database.engine, name, count, size)
    write_secret(target / _RECORD, msgspec.json.encode(made))
    return made


async def restore(settings: Settings, source: Path) -> Backup:
    """Put a backup into an empty data folder."""
    try:
        made = msgspec.json.decode((source / _RECORD).read_bytes(), type=Backup)
    except (FileNotFoundError, msgspec.DecodeError) as error:
        raise UsageError(
            "bad-backup", f"{source} does not hold a complete backup.", hint=f"It has no readable {_RECORD}."
        ) from error
    if settings.database_file.exists():
        raise UsageError(
            "not-empty",
            f"There is a hub in {settings.data} already.",
            hint="Restore into an empty folder, then move it to its place.",
        )
    if (made.database is None) != (settings.database is not None):
        raise UsageError(
            "bad-backup",
            f"The backup is of a hub on {made.engine}.",
            hint="Restore it with the same kind of --database.",
        )
    objects = open_objects(settings)
    try:
        await _restore_objects(objects, source / "objects", made)
    finally:
        objects.close()
    if made.database is not None:
        # The database comes last: without it the folder is not a hub yet.
        await asyncio.to_thread(_copy_durably, source / made.database, settings.database_file)
    return made


async def _restore_objects(objects: Objects, source: Path, made: Backup) -> None:
    count = 0
    for file in await asyncio.to_thread(_files, source):
        copy = objects.spool / "restored"
        await asyncio.to_thread(shutil.copyfile, file, copy)
        await objects.put_file(file.relative_to(source).as_posix(), copy)
        count += 1
    if count < made.objects:
        raise PisteError("bad-backup", f"The backup holds {count} of its {made.objects} objects.")


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _begin(target: Path) -> None:
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    (target / _RECORD).unlink(missing_ok=True)


def _copy_database(database: SqliteDatabase, target: Path) -> None:
    temporary = target / f"{_DATABASE}.new"
    temporary.unlink(missing_ok=True)
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    database.backup(temporary)
    _sync(temporary)
    temporary.replace(target / _DATABASE)
    sync_folder(target)


async def _copy_object(objects: Objects, key: str, target: Path) -> int | None:
    """The size of the copy; None if the object has been collected meanwhile."""
    size = await objects.size(key)
    if size is None:
        return None
    if await asyncio.to_thread(_has_copy, target, size):
        return size
    temporary = target.with_name(f".{target.name}")
    with temporary.open("wb") as file:
        try:
            async for piece in objects.stream(key):
                file.write(piece)
        except FileNotFoundError:
            temporary.unlink()
            return None
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(target)
    return size


async def _keys(objects: Objects) -> AsyncIterator[str]:
    for kind in queries.KINDS:
        async for key in objects.keys(f"{kind}/"):
            yield key


def _has_copy(target: Path, size: int) -> bool:
    """Whether an earlier backup has it already; if not, its folder is there now."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return target.exists() and target.stat().st_size == size


def _copy_durably(source: Path, target: Path) -> None:
    temporary = target.with_name(f".{target.name}")
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT, 0o600))
    shutil.copyfile(source, temporary)
    _sync(temporary)
    temporary.replace(target)
    sync_folder(target.parent)


def _sync(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
