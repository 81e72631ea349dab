"""Both engines keep the promises of db/base.py: the same tests, the same SQL."""

import asyncio
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from piste.hub.db.base import ConflictError
from piste.hub.db.migrate import known_migrations, migrate, pending
from piste.hub.db.sqlite import split_statements
from piste.hub.services import Services
from piste.lib.errors import PisteError
from tests.hub.conftest import RunWithServices
from tests.hub.process import Hub

ADD = "INSERT INTO organization (id, name, created_at) VALUES ($1, $2, $3)"
NAMES = "SELECT name FROM organization ORDER BY created_at"


async def _names(services: Services) -> list[str]:
    return [row["name"] for row in await services.database.all(NAMES)]


def test_what_a_transaction_wrote_is_there_and_counted(with_services: RunWithServices[None]) -> None:
    async def work(services: Services) -> None:
        async with services.database.transaction() as connection:
            assert await connection.run(ADD, "1", "a", 1) == 1
            await connection.many(ADD, [("2", "b", 2), ("3", "c", 3)])
            assert (
                await connection.run("UPDATE organization SET name = $1 WHERE created_at > $2", "x", 9) == 0
            )
            found = await connection.one("SELECT count(*) AS n FROM organization")
            assert found is not None
            assert found["n"] == 3
        assert await _names(services) == ["a", "b", "c"]
        assert [row["name"] for row in await services.database.scan(NAMES)] == ["a", "b", "c"]
        assert await services.database.one("SELECT 1 AS one WHERE $1 = 2", 1) is None

    with_services(work)


def test_nothing_stays_of_a_transaction_that_fails(with_services: RunWithServices[None]) -> None:
    async def work(services: Services) -> None:
        with pytest.raises(ZeroDivisionError):
            async with services.database.transaction() as connection:
                await connection.run(ADD, "1", "a", 1)
                raise ZeroDivisionError
        assert await _names(services) == []

    with_services(work)


def test_a_name_that_is_taken_in_another_case_is_a_conflict(with_services: RunWithServices[None]) -> None:
    async def work(services: Services) -> None:
        async with services.database.transaction() as connection:
            await connection.run(ADD, "1", "Acme", 1)
        with pytest.raises(ConflictError):
            async with services.database.transaction() as connection:
                await connection.run(ADD, "2", "aCME", 2)
        async with services.database.transaction() as connection:
            await connection.run(ADD, "3", "other", 3)
        assert await _names(services) == ["Acme", "other"]

    with_services(work)


def test_a_transaction_that_is_cancelled_leaves_a_clean_writer(with_services: RunWithServices[None]) -> None:
    async def work(services: Services) -> None:
        inside = asyncio.Event()

        async def hang() -> None:
            async with services.database.transaction() as connection:
                await connection.run(ADD, "1", "a", 1)
                inside.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(hang())
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with services.database.transaction() as connection:
            await connection.run(ADD, "2", "b", 2)
        assert await _names(services) == ["b"]

    with_services(work)


def test_many_writers_at_once_all_succeed(with_services: RunWithServices[None]) -> None:
    async def work(services: Services) -> None:
        async def write(number: int) -> None:
            async with services.database.transaction() as connection:
                await connection.one("SELECT count(*) AS n FROM organization")
                await connection.run(ADD, str(number), f"n{number}", number)

        await asyncio.gather(*(write(number) for number in range(40)))
        assert len(await _names(services)) == 40

    with_services(work)


def test_lists_go_as_one_parameter(with_services: RunWithServices[None]) -> None:
    async def work(services: Services) -> None:
        async with services.database.transaction() as connection:
            await connection.many(ADD, [(str(number), f"n{number}", number) for number in range(5)])
        rows = await services.database.all(
            "SELECT name FROM organization WHERE id IN (SELECT value FROM json_each($1)) ORDER BY name",
            '["1", "3", "x"]',
        )
        assert [row["name"] for row in rows] == ["n1", "n3"]

    with_services(work)


def test_migrations_run_once_however_many_start_at_once(with_services: RunWithServices[None]) -> None:
    async def work(services: Services) -> None:
        again = await asyncio.gather(*(migrate(services.database, services.clock) for _ in range(3)))
        assert again == [[], [], []]
        rows = await services.database.all("SELECT number FROM migration ORDER BY number")
        assert [row["number"] for row in rows] == [each.number for each in known_migrations()]

    with_services(work)


def test_an_older_process_goes_on_with_a_database_that_a_newer_one_has_migrated(
    with_services: RunWithServices[None],
) -> None:
    async def work(services: Services) -> None:
        async with services.database.transaction() as connection:
            await connection.run(
                "INSERT INTO migration (number, name, checksum, applied_at) VALUES ($1, $2, $3, $4)",
                9999,
                "of_the_future",
                "x",
                1,
            )
        assert await pending(services.database) == []

    with_services(work)


def test_a_migration_that_was_run_from_another_text_is_an_error(with_services: RunWithServices[None]) -> None:
    async def work(services: Services) -> None:
        async with services.database.transaction() as connection:
            await connection.run("UPDATE migration SET checksum = $1 WHERE number = $2", "x", 1)
        with pytest.raises(PisteError) as caught:
            await migrate(services.database, services.clock)
        assert caught.value.ref == "schema-differs"

    with_services(work)


def test_two_processes_write_to_one_sqlite_file(tmp_path: Path) -> None:
    hub = Hub(tmp_path / "hub").start()
    other = Hub(hub.data).start()
    try:
        for number in range(20):
            for each, name in ((hub, "a"), (other, "b")):
                each.as_admin("POST", "/api/v1/organizations", json={"name": f"{name}{number}"})
        assert len(hub.as_admin("GET", "/api/v1/organizations")) == 40
        assert len(other.as_admin("GET", "/api/v1/organizations")) == 40
    finally:
        hub.close()
        other.close()


def test_a_database_that_is_not_there_is_an_error_without_its_password(tmp_path: Path) -> None:
    hub = Hub(tmp_path / "hub", database="postgresql://me:hidden-word@127.0.0.1:1/none")
    failed = hub.command("admin-token", check=False)
    assert failed.returncode == 2
    assert "database-unreachable" in failed.stderr
    assert "hidden-word" not in failed.stderr + failed.stdout


def test_importing_the_hub_on_sqlite_does_not_import_postgresql() -> None:
    code = "import sys, piste.hub.app; sys.exit('asyncpg' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_script_is_split_into_its_statements() -> None:
    assert split_statements("CREATE TABLE a (b TEXT);\n-- c;\nCREATE TABLE d\n(e TEXT);\n") == [
        "CREATE TABLE a (b TEXT);\n",
        "-- c;\nCREATE TABLE d\n(e TEXT);\n",
    ]
    with pytest.raises(ValueError, match="middle"):
        split_statements("CREATE TABLE a (")


def test_sqlite_is_durable_and_in_wal_mode(tmp_path: Path) -> None:
    hub = Hub(tmp_path / "hub").start()
    try:
        with sqlite3.connect(hub.data / "piste.sqlite") as connection:
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    finally:
        hub.close()
