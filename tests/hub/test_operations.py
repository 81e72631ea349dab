"""What an operator does: collect, check, copy and bring back, move to a new key. On both engines, on a real
release."""

import json
import os
import random
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from piste.nix.narinfo import parse_narinfo
from piste.nix.signature import PublicKey
from tests.hub.process import Hub, wait_for
from tests.hub.publishing import Acme, chain, stored_files

pytestmark = pytest.mark.long

KINDS = ("nar", "listing", "manifest", "source")


@pytest.fixture
def acme(hub: Hub) -> Acme:
    return Acme(hub)


def _stored(hub: Hub) -> dict[str, list[str]]:
    return {kind: stored_files(hub, kind) for kind in KINDS}


def _age(hub: Hub) -> None:
    """As if every object had been put long ago."""
    for file in (hub.data / "objects").rglob("*"):
        if file.is_file():
            os.utime(file, (1000, 1000))


def _collect(hub: Hub, *options: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(hub.command("gc", "--json", "--grace", "1s", *options).stdout)
    return found


def test_what_a_release_needs_is_never_collected(acme: Acme) -> None:
    acme.publish("1.0.0", chain("app"))
    before = _stored(acme.hub)
    _age(acme.hub)
    assert _collect(acme.hub)["bytes"] == 0
    assert _stored(acme.hub) == before


def test_what_an_abandoned_publication_left_is_collected_once_it_is_old(acme: Acme) -> None:
    acme.publish("1.0.0", chain("app"))
    before = _stored(acme.hub)
    closure = chain("other", content=b"other")
    filling = acme.open("2.0.0")
    filling.declare(closure, {"a": closure[-1]})
    filling.upload_missing(closure)
    filling.source()
    assert len(stored_files(acme.hub, "nar")) == 6
    _age(acme.hub)
    assert sum(_collect(acme.hub)["objects"].values()) == 0, "an open publication protects what it has"
    assert acme.ask("DELETE", filling.place).status == 204
    assert json.loads(acme.hub.command("gc", "--json").stdout)["bytes"] == 0, "the rows are young"
    _wait_a_second(acme)
    foreseen = _collect(acme.hub, "--dry-run")
    assert foreseen["objects"]["nar"] == foreseen["objects"]["listing"] == 3
    assert len(stored_files(acme.hub, "nar")) == 6
    collected = _collect(acme.hub)
    assert collected == foreseen | {"dry_run": False}
    assert _stored(acme.hub) == before
    acme.publish("2.0.0", closure)
    assert acme.hub.command("check", "--contents").returncode == 0


def test_a_delta_goes_once_nobody_may_be_offered_it(acme: Acme) -> None:
    content = random.Random(1).randbytes(5000)
    for version in ("1.0.0", "1.1.0"):
        acme.publish(version, chain("app", content=content + version.encode()))
    wait_for(lambda: len(stored_files(acme.hub, "delta")) == 1)
    _age(acme.hub)
    assert _collect(acme.hub)["bytes"] == 0
    place = f"{acme.base}/releases/1.0.0/yank"
    assert acme.hub.request("PUT", place, token=acme.hub.admin, json={}).status == 200
    _wait_a_second(acme)
    collected = _collect(acme.hub)
    assert {kind: count for kind, count in collected["objects"].items() if count} == {"delta": 1}
    assert stored_files(acme.hub, "delta") == []


def test_an_object_without_a_row_is_collected(acme: Acme) -> None:
    acme.publish("1.0.0", chain("app"))
    before = _stored(acme.hub)
    stray = acme.hub.data / "objects" / "nar" / "00" / ("0" * 52 + ".nar.zst")
    stray.parent.mkdir()
    stray.write_bytes(b"x" * 100)
    os.utime(stray, (1000, 1000))
    assert _collect(acme.hub)["bytes"] == 100
    assert _stored(acme.hub) == before


def test_a_sound_hub_passes_the_check_and_a_damaged_one_is_described(acme: Acme) -> None:
    acme.publish("1.0.0", chain("app"))
    hub = acme.hub
    sound = json.loads(hub.command("check", "--contents", "--json").stdout)
    assert (sound["nars"], sound["manifests"], sound["sources"], sound["problems"]) == (3, 1, 1, [])
    files = sorted(file for file in (hub.data / "objects" / "nar").rglob("*") if file.is_file())
    data = bytearray(files[0].read_bytes())
    data[-1] ^= 1
    files[0].write_bytes(data)
    files[1].write_bytes(b"short")
    files[2].unlink()
    for kind in ("source", "manifest"):
        shutil.rmtree(hub.data / "objects" / kind)
    problems = [each["problem"] for each in _problems(hub, "--contents")]
    assert sorted(problems) == sorted(
        [
            "the NAR's file has another hash",
            f"the NAR's file has 5 bytes instead of {_size_of_second(hub)}",
            "the NAR is missing",
            "its source is missing",
            "the manifest is missing",
        ]
    )
    assert len(_problems(hub)) == 4, "without reading contents a changed byte is not seen"


def test_a_backup_of_a_serving_hub_is_whole_and_can_be_brought_back(
    make_hub: Callable[..., Hub], tmp_path: Path
) -> None:
    acme = Acme(make_hub())
    closure = chain("app")
    acme.publish("1.0.0", closure)
    copy = tmp_path / "backup"
    made = json.loads(acme.hub.command("backup", str(copy), "--json").stdout)
    assert made["database"] == "piste.sqlite"
    assert made["objects"] == sum(len(names) for names in _stored(acme.hub).values())
    for file in copy.rglob("*"):
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, file
    acme.publish("2.0.0", chain("later"))
    again = json.loads(acme.hub.command("backup", str(copy), "--json").stdout)
    assert again["objects"] > made["objects"]
    acme.hub.kill()
    restored = Hub(tmp_path / "restored")
    restored.command("restore", str(copy))
    assert restored.command("check", "--contents").returncode == 0
    try:
        restored.start()
        acme.hub = restored
        assert acme.narinfo(closure[0]).status == 200
        assert acme.resolve("2").json()["version"] == "2.0.0"
        acme.publish("3.0.0", chain("app"))
    finally:
        restored.close()


def test_a_backup_of_a_hub_on_postgresql_says_that_the_database_is_apart(
    make_hub: Callable[..., Hub], postgres: Any, tmp_path: Path
) -> None:
    acme = Acme(make_hub(database=postgres.create()))
    acme.publish("1.0.0", chain("app"))
    copied = acme.hub.command("backup", str(tmp_path / "backup"))
    assert "pg_dump" in copied.stderr
    before = _stored(acme.hub)
    moved = Hub(tmp_path / "moved", acme.hub.database)
    moved.command("restore", str(tmp_path / "backup"))
    assert _stored(moved) == before
    assert moved.command("check", "--contents").returncode == 0


def test_a_backup_is_not_restored_over_a_hub_and_not_when_it_is_incomplete(
    make_hub: Callable[..., Hub], tmp_path: Path
) -> None:
    hub = make_hub()
    copy = tmp_path / "backup"
    hub.command("backup", str(copy))
    over = hub.command("restore", str(copy), check=False)
    assert (over.returncode, "not-empty" in over.stderr) == (2, True)
    (copy / "backup.json").unlink()
    incomplete = Hub(tmp_path / "new").command("restore", str(copy), check=False)
    assert (incomplete.returncode, "bad-backup" in incomplete.stderr) == (2, True)


def test_an_organization_moves_to_a_new_key_without_a_moment_without_one(acme: Acme) -> None:
    closure = chain("app")
    acme.publish("1.0.0", closure)
    hub, name = acme.hub, acme.organization
    old = _key(hub, name)[0]
    rotated = json.loads(hub.command("keys", "rotate", "--org", name, "--json").stdout)
    assert (rotated["paths_signed"], rotated["statements_signed"]) == (3, 1)
    new = PublicKey.parse(rotated["public_keys"][0])
    assert new.name == f"{name.lower()}-2"
    assert _key(hub, name) == [new, old]
    acme.publish("2.0.0", chain("later"))
    for path in (*closure, *chain("later")):
        assert _signed_by(acme, path) == {old, new}
    resolved = acme.resolve("=1.0.0").json()
    assert len(resolved["statement_signatures"]) == 2
    for key in (old, new):
        assert any(key.verify(resolved["statement"], text) for text in resolved["statement_signatures"])

    hub.command("keys", "rotate", "--org", name, "--retire", old.name)
    assert _key(hub, name) == [new]
    assert _signed_by(acme, closure[0]) == {new}
    only = hub.command("keys", "rotate", "--org", name, "--retire", new.name, check=False)
    assert only.returncode != 0


def test_migrations_can_be_looked_at_and_run_beforehand(database_url: str | None, tmp_path: Path) -> None:
    hub = Hub(tmp_path / "hub", database_url)
    foreseen = hub.command("migrate", "--dry-run").stdout.split()
    assert foreseen[0] == "0001_foundation"
    assert hub.command("migrate").stdout.split() == foreseen
    assert hub.command("migrate").stdout == ""


def _problems(hub: Hub, *options: str) -> list[dict[str, str]]:
    ran = hub.command("check", "--json", *options, check=False)
    assert ran.returncode == 1
    found: list[dict[str, str]] = json.loads(ran.stdout)["problems"]
    return found


def _size_of_second(hub: Hub) -> str:
    problem = next(each["problem"] for each in _problems(hub) if "instead of" in each["problem"])
    return problem.rpartition(" ")[2]


def _key(hub: Hub, organization: str) -> list[PublicKey]:
    return [PublicKey.parse(line) for line in hub.command("public-key", "--org", organization).stdout.split()]


def _signed_by(acme: Acme, path: Any) -> set[PublicKey]:
    info = parse_narinfo(acme.narinfo(path).body.decode()).info
    keys = {key.name: key for key in _key(acme.hub, acme.organization)}
    found = set()
    for text in info.signatures:
        key = keys[text.partition(":")[0]]
        assert key.verify(info.fingerprint(), text)
        found.add(key)
    return found


def _wait_a_second(acme: Acme) -> None:
    """Until the youngest row is older than the grace of a second: a token that lives for one tells when."""
    token = acme.hub.make_token(acme.organization, expires_in=2)
    wait_for(lambda: acme.hub.request("GET", "/healthz", token=token).status == 401)
