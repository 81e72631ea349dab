"""Opens the database that the settings name, and brings its tables up to date."""

import os

from piste.hub.db.base import Database
from piste.hub.db.migrate import migrate
from piste.hub.db.sqlite import SqliteDatabase
from piste.hub.settings import Settings
from piste.lib.clock import Clock
from piste.lib.errors import UsageError


async def open_database(settings: Settings, clock: Clock, *, migrated: bool = True) -> Database:
    """The database of the settings; the caller closes it."""
    database = await _open(settings)
    try:
        if migrated:
            await migrate(database, clock)
    except BaseException:
        await database.close()
        raise
    return database


async def _open(settings: Settings) -> Database:
    url = settings.database
    if url is None:
        file = settings.database_file
        # sqlite3 would make it with the mode of the umask; it holds signing keys.
        os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
        return SqliteDatabase(file)
    if url.startswith(("postgresql://", "postgres://")):
        # Only where it is used: the import takes longer than opening SQLite.
        from piste.hub.db.postgres import connect

        return await connect(url)
    raise UsageError(
        "database-unknown",
        "The database must be `sqlite` or begin with postgresql://.",
        hint="Leave --database away to keep everything in the data folder.",
    )
