"""An update comes as deltas against the release that is there, or whole where one can not be used."""

import json
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from piste.lib.zstd import zstd
from piste.nix.store_path import StorePath
from piste.wire.plan import PlanAnswer
from tests.attacks.liar import Liar, running_liar
from tests.hub.process import Hub, wait_for
from tests.running.altered import altered
from tests.running.closures import ATTRIBUTE, Member, make_closure, member, publish
from tests.running.command import Finished, Person, check
from tests.running.tenants import Tenant, make_tenant

# A host that does not wait half a minute for what breaks off.
_HASTY = """
import piste.host.supply as supply
from piste.lib.retry import Backoff
supply._BACKOFF = Backoff(attempts=3, first=0.01)
"""
REBUILT = 60  # small paths that differ in nothing but hashes


def closure_of(version: int, further: Sequence[StorePath] = ()) -> list[Member]:
    """Sixty small paths that refer to one another, a larger one that changed in its middle, and a top, which
    also refers to `further`."""
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
    return [*made, large, member("system", version, b"", [same, made[-1].path, large.path, *further])]


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
                publish(client, "acme", "web", f"{version}.0.0", closure_of(version))
        with running_liar(hub.url) as proxy:
            made = Update(tenant, closure_of(2), proxy)
            # They are made after the publication, in the background.
            wait_for(lambda: hub.log_lines("deltas-made"), 60)
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


def _delta_of(update: Update, name: str) -> str:
    """The end of the address of the delta that makes the paths of this name."""
    with update.tenant.client() as client:
        digests = [client.resolve("acme", "web", f"={each}.0.0", ATTRIBUTE).manifest[7:] for each in (1, 2)]
    address = f"{update.tenant.api}/plan/2/{ATTRIBUTE}?have={digests[0]}"
    answer = update.tenant.hub.request("GET", address, token=update.tenant.token)
    plan = msgspec.json.decode(answer.body, type=PlanAnswer)
    names = [each.path.name for each in update.second]
    assert plan.deltas is not None
    for offer in plan.deltas.offers:
        if any(names[place] == name for place in offer.places):
            return f"/deltas/{digests[0]}/{offer.number}"
    raise AssertionError(f"nothing makes {name}: {names}")


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


@pytest.mark.parametrize("fault", ["cut short", "other bytes"])
def test_one_bad_delta_costs_its_own_paths_and_nothing_else(
    update: Update, tmp_path: Path, fault: str
) -> None:
    person = _host(update, tmp_path)
    person.extra = {**person.extra, **altered(tmp_path / "altered", _HASTY)}
    bad = _delta_of(update, "part-0")

    def lie(path: str, body: bytes) -> bytes:
        return body[:-40] + bytes(40) if path.endswith(bad) else body

    if fault == "cut short":
        update.proxy.cut = lambda path: 100 if path.endswith(bad) else None
    else:
        update.proxy.lie = lie
    done = update.fetch(person, "2")
    update.check(person)
    assert "A delta can't be used" in done.stderr
    # Of the small paths those come whole that had not come before; the delta of the large one comes once.
    rebuilt = [each for each in update.second if re.fullmatch("part-[0-9]+", each.path.name)]
    small = sum(len(zstd.compress(each.nar, level=1)) for each in rebuilt)
    assert small / 2 < done.json["bytes_received"] < 1.2 * small
    asked = Counter(path.partition("?")[0] for path in update.proxy.asked if "/deltas/" in path)
    assert asked.pop(next(path for path in asked if path.endswith(bad))) >= (2 if fault == "cut short" else 1)
    assert set(asked.values()) == {1}
    assert [path.name for path in (person.root / "var/cache/piste/fetch").iterdir()] == ["lock"]


def test_where_no_delta_is_right_all_comes_whole(update: Update, tmp_path: Path) -> None:
    person = _host(update, tmp_path)
    person.extra = {**person.extra, **altered(tmp_path / "altered", _HASTY)}
    update.proxy.cut = lambda path: 100 if "/deltas/" in path else None
    done = update.fetch(person, "2")
    update.check(person)
    assert done.stderr.count("A delta can't be used") == 2


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
    (person.root / str(closure_of(1)[-1].path).lstrip("/")).write_text("")
    done = update.fetch(person, "2")
    update.check(person)
    assert done.json["paths_fetched"] == REBUILT + 3
