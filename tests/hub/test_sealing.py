"""Secrets at rest are encrypted where the operator gives a key, and a hub without the right key doesn't
start."""

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from piste.hub.access.sealing import Sealer
from piste.lib.errors import UsageError
from tests.hub.process import Hub
from tests.hub.publishing import Acme, chain

SECRET = bytes(range(32))


def test_what_is_sealed_opens_with_its_key_at_its_place_alone() -> None:
    sealer = Sealer(b"k" * 32)
    sealed = sealer.seal(SECRET, "token_key:1")
    assert SECRET not in sealed
    assert sealer.open(sealed, "token_key:1") == SECRET
    assert sealer.open(SECRET, "token_key:1") == SECRET, "what was made before there was a key"
    for other, place in (
        (sealer, "token_key:2"),
        (Sealer(b"l" * 32), "token_key:1"),
        (Sealer(None), "token_key:1"),
    ):
        with pytest.raises(UsageError) as caught:
            other.open(sealed, place)
        assert caught.value.ref == "secrets-sealed"


def test_a_hub_that_is_given_a_key_encrypts_what_lay_open_and_needs_the_key_from_then_on(
    make_hub: Callable[..., Hub], database_url: str | None, tmp_path: Path
) -> None:
    acme = Acme(make_hub(database=database_url))
    acme.publish("1.0.0", chain("app"))
    assert acme.resolve("1").json()["token"]
    hub = acme.hub
    assert {len(secret) for secret in _secrets(hub)} == {32}
    hub.stop()

    key, other = tmp_path / "key", tmp_path / "other"
    key.write_text("k" * 40)
    other.write_text("o" * 40)
    hub.options = ("--secrets-key-file", str(key))
    hub.start()
    acme.add_project("later")
    acme.publish("2.0.0", chain("later"))
    sealed = acme.resolve("2").json()
    assert (
        hub.request("GET", f"{acme.cache}/manifest/{sealed['manifest'][7:]}", token=sealed["token"]).status
        == 200
    )
    assert {len(secret) for secret in _secrets(hub)} == {61}
    hub.stop()

    for options in ((), ("--secrets-key-file", str(other))):
        failed = hub.command("serve", "--listen", "127.0.0.1:0", *options, check=False)
        assert (failed.returncode, "secrets-sealed" in failed.stderr) == (2, True)
    rotated = hub.command("keys", "rotate", "--org", acme.organization, check=False)
    assert (rotated.returncode, "secrets-sealed" in rotated.stderr) == (2, True)
    assert {len(secret) for secret in _secrets(hub)} == {61}
    hub.command("keys", "rotate", "--org", acme.organization, "--secrets-key-file", str(key))


def test_a_key_that_is_too_short_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("short")
    failed = Hub(tmp_path / "hub").command("serve", "--secrets-key-file", str(tmp_path / "key"), check=False)
    assert failed.returncode == 2


def _secrets(hub: Hub) -> list[bytes]:
    sql = "SELECT secret FROM token_key UNION ALL SELECT secret FROM signing_key"
    if hub.database is None:
        with sqlite3.connect(hub.data / "piste.sqlite") as connection:
            return [row[0] for row in connection.execute(sql)]

    async def ask() -> list[Any]:
        connection = await asyncpg.connect(hub.database)
        try:
            return [row["secret"] for row in await connection.fetch(sql)]
        finally:
            await connection.close()

    return asyncio.run(ask())
