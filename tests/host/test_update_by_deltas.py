"""An update comes as deltas against the release that is there, or whole where one can not be used."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from piste.lib.zstd import zstd
from tests.attacks.liar import Liar, running_liar
from tests.hub.process import Hub, wait_for
from tests.running.closures import ATTRIBUTE, Member, make_closure, member, publish
from tests.running.command import Finished, Person, check
from tests.running.tenants import Tenant, make_tenant

REBUILT = 60  # small paths that differ in nothing but hashes


def _closure(version: int) -> list[Member]:
    """Sixty small paths that refer to one another, a larger one that changed in its middle, and a top."""
    draw = random.Random(3)
    made = make_closure(9, paths=1, size=4000)
    same = made[0].path
    for number in range(REBUILT):
        below = [each.path for each in made[-2:] if each.path != same]
        made.append(member(f"part-{number}", (version, number), draw.randbytes(20_000), below))
    body = draw.randbytes(6_000_000)
    if version > 1:
        body = body[:3_000_000] + b"something that was put in" + body[3_000_000:]
    large = member("large-1.0", (version, "large"), body, [made[-1].path])
    return [*made, large, member("system", version, b"", [same, made[-1].path, large.path])]


@dataclass
class Update:
    """Two releases, and a proxy that writes down what is asked."""

    tenant: Tenant
    second: list[Member]
    proxy: Liar

    def fetch(self, person: Person, requirement: str) -> Finished:
        link = str(person.folder / "result")
        return person.succeed("fetch", f"acme/web/{requirement}#{ATTRIBUTE}", link, "--json")

    def check(self, person: Person) -> None:
        held = check(person.run("nix-store", "-qR", str(self.second[-1].path))).split()
        assert set(held) == {str(each.path) for each in self.second}
        check(person.run("nix-store", "--verify", "--check-contents"))


@pytest.fixture(scope="module")
def update(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Update]:
    hub = Hub(tmp_path_factory.mktemp("hub"))
    try:
        tenant = make_tenant(hub.start(), "acme", "web")
        with tenant.client() as client:
            for version in (1, 2):
                publish(client, "acme", "web", f"{version}.0.0", _closure(version))
        with running_liar(hub.url) as proxy:
            made = Update(tenant, _closure(2), proxy)
            _wait_for_deltas(made)
            yield made
    finally:
        hub.close()


def _host(update: Update, folder: Path, speed: float = 1e6) -> Person:
    """A host that has the first release, and found the line to be of that speed."""
    update.proxy.honest()
    person = Person(folder, hub=update.proxy.url, token=update.tenant.token)
    person.extra = {"PISTE_TRUSTED_PUBLIC_KEYS": str(update.tenant.key)}
    update.fetch(person, "=1.0.0")
    notes = person.root / "var/cache/piste/releases/notes.json"
    notes.write_text(json.dumps({**json.loads(notes.read_text()), "speed": speed}))
    update.proxy.asked.clear()
    return person


def _wait_for_deltas(update: Update) -> None:
    """They are made after the publication, in the background."""
    with update.tenant.client() as client:
        base = client.resolve("acme", "web", "=1.0.0", ATTRIBUTE).manifest.removeprefix("sha256:")
    address = f"{update.tenant.api}/plan/2/{ATTRIBUTE}?have={base}"

    def all_there() -> bool:
        answer = update.tenant.hub.request("GET", address, token=update.tenant.token).json()
        offers = (answer.get("deltas") or {}).get("offers", [])
        return sum(len(offer["places"]) for offer in offers) >= REBUILT + 1

    wait_for(all_there, 60)


def test_an_update_takes_a_fraction_of_its_bytes(update: Update, tmp_path: Path) -> None:
    person = _host(update, tmp_path)
    done = update.fetch(person, "2").json
    update.check(person)
    whole = sum(len(zstd.compress(each.nar)) for each in update.second)
    assert done["paths_fetched"] == REBUILT + 2
    assert done["bytes_received"] < whole / 50
    assert any("/deltas/" in path for path in update.proxy.asked)


def test_on_a_line_that_is_faster_than_making_nars_the_files_are_fetched(
    update: Update, tmp_path: Path
) -> None:
    person = _host(update, tmp_path, speed=1e10)
    update.fetch(person, "2")
    update.check(person)
    assert not any("/deltas/" in path for path in update.proxy.asked)


@pytest.mark.parametrize("lie", ["other bytes", "not there"])
def test_a_delta_that_can_not_be_used_is_made_up_for(update: Update, tmp_path: Path, lie: str) -> None:
    person = _host(update, tmp_path)

    def change(path: str, body: bytes) -> bytes:
        if "/deltas/" not in path:
            return body
        return body[:-40] + bytes(40)

    update.proxy.lie = change
    if lie == "not there":
        update.proxy.detour = lambda path: path.replace("/deltas/", "/no-deltas/")
        update.proxy.lie = lambda path, body: body
    done = update.fetch(person, "2")
    update.check(person)
    assert done.json["bytes_received"] > 6_000_000
    assert "delta" in done.stderr


def test_a_base_that_was_damaged_is_made_up_for(update: Update, tmp_path: Path) -> None:
    person = _host(update, tmp_path)
    for path in (person.root / "nix/store").glob("*-large-1.0"):
        data = bytearray(path.read_bytes())
        data[1_000_000:1_000_400] = bytes(400)
        path.chmod(0o644)
        path.write_bytes(data)
    update.fetch(person, "2")
    held = check(person.run("nix-store", "-qR", str(update.second[-1].path))).split()
    check(person.run("nix-store", "--verify-path", *held))


def test_a_base_that_is_gone_is_not_built_upon(update: Update, tmp_path: Path) -> None:
    person = _host(update, tmp_path)
    (person.folder / "result").unlink()
    check(person.run("nix-store", "--gc"))
    # Its top alone is there again, which is what is looked at first.
    (person.root / str(_closure(1)[-1].path).lstrip("/")).write_text("")
    done = update.fetch(person, "2")
    update.check(person)
    assert done.json["paths_fetched"] == REBUILT + 3
