"""A closure token reads one closure, everywhere where the hub serves, and ends everywhere within a second."""

import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest

from piste.hub.access import queries
from piste.hub.services import Services
from tests.hub.conftest import RunWithServices
from tests.hub.process import Hub
from tests.hub.publishing import Acme, chain
from tests.running.closures import ATTRIBUTE


@dataclass
class Pair:
    """Two processes of one hub, and a closure of it that is read all the time."""

    hubs: list[Hub]
    acme: Acme
    place: str

    def parent(self, **fields: object) -> tuple[str, str]:
        """A resolve-only token, its id first."""
        bound = {"kind": "resolve-only", "project": "web", "requirement": "1", "attribute": ATTRIBUTE}
        tokens = f"/api/v1/organizations/{self.acme.organization}/tokens"
        made = self.hubs[0].as_admin("POST", tokens, json={**bound, "description": "a host", **fields})
        return made["id"], made["token"]

    def revoke(self, number: str, at: Hub) -> float:
        """The moment at which the revocation was acknowledged."""
        at.as_admin("DELETE", f"/api/v1/organizations/{self.acme.organization}/tokens/{number}")
        return time.monotonic()


@pytest.fixture
def pair(make_hub: Callable[..., Hub], database_url: str | None) -> Pair:
    first = make_hub(database=database_url)
    second = make_hub(data=first.data, database=database_url)
    acme = Acme(first)
    closure = chain("app")
    acme.publish("1.0.0", closure)
    return Pair([first, second], acme, f"{acme.cache}/{closure[0].path.hash_part}.narinfo")


def last_allowed(hub: Hub, place: str, token: str, until: float) -> float:
    """Read until a moment; when the last request began that was allowed."""
    allowed = 0.0
    while (began := time.monotonic()) < until:
        if hub.request("GET", place, token=token).status == 200:
            allowed = began
        time.sleep(0.02)  # within the limit of what a token may ask in a minute
    return allowed


def test_a_revoked_token_and_its_closure_tokens_are_refused_one_second_later_in_every_process(
    pair: Pair,
) -> None:
    """Read all the time, so that each process remembers them; whichever process is told of the revocation."""
    status = "/api/v1/status"
    for told in pair.hubs:
        number, parent = pair.parent()
        token = pair.acme.resolve("1", token=parent).json()["token"]
        device = pair.hubs[0].make_token(pair.acme.organization, kind="device")
        asked = [(pair.place, token), (status, parent), (pair.place, device)]
        for hub in pair.hubs:
            assert {hub.request("GET", place, token=held).status for place, held in asked} == {200}
        with ThreadPoolExecutor(4) as threads:
            until = time.monotonic() + 2.5
            reads = [
                threads.submit(last_allowed, hub, place, credential, until)
                for hub in pair.hubs
                for place, credential in asked[:2]
            ]
            revoked = pair.revoke(number, told)
            late = [read.result() - revoked for read in reads]
        assert max(late) < 1.0, late
        # What has nothing to do with it goes on.
        assert [hub.request("GET", pair.place, token=device).status for hub in pair.hubs] == [200, 200]


def test_the_first_request_one_second_after_a_revocation_is_refused(pair: Pair) -> None:
    """Nobody asked meanwhile, so nothing but the clock has told the process to look."""
    number, parent = pair.parent()
    token = pair.acme.resolve("1", token=parent).json()["token"]
    assert [hub.request("GET", pair.place, token=token).status for hub in pair.hubs] == [200, 200]
    revoked = pair.revoke(number, pair.hubs[0])
    while time.monotonic() < revoked + 1.0:
        time.sleep(revoked + 1.0 - time.monotonic())
    assert [hub.request("GET", pair.place, token=token).status for hub in pair.hubs] == [401, 401]
    assert [hub.request("GET", "/api/v1/status", token=parent).status for hub in pair.hubs] == [401, 401]


def test_a_process_that_was_away_while_a_token_was_revoked_asks_the_database_first(pair: Pair) -> None:
    number, parent = pair.parent()
    token = pair.acme.resolve("1", token=parent).json()["token"]
    first, second = pair.hubs
    assert [hub.request("GET", pair.place, token=token).status for hub in pair.hubs] == [200, 200]
    second.process.send_signal(signal.SIGSTOP)
    try:
        revoked = pair.revoke(number, first)
        while time.monotonic() < revoked + 1.0:
            time.sleep(revoked + 1.0 - time.monotonic())
    finally:
        second.process.send_signal(signal.SIGCONT)
    assert second.request("GET", pair.place, token=token).status == 401


def test_a_revocation_that_becomes_visible_after_thousands_of_later_ones_is_not_missed(
    with_services: RunWithServices[None],
) -> None:
    """On PostgreSQL a transaction takes its number first and is seen last; SQLite lets nobody else write."""

    async def work(services: Services) -> None:
        database, revocations = services.database, services.revocations
        async with AsyncExitStack() as late:
            if database.engine == "postgresql":
                connection = await late.enter_async_context(database.transaction())
                await revocations.add_token(connection, "late")
            async with database.transaction() as other:
                await other.many(
                    "INSERT INTO revocation (subject, created_at) VALUES ($1, $2)",
                    [(f"token:{number}", services.clock()) for number in range(3000)],
                )
            await revocations.refresh()
            assert not revocations.may_concern(["token:late"])
            if database.engine == "sqlite":
                connection = await late.enter_async_context(database.transaction())
                await revocations.add_token(connection, "late")
        await revocations.refresh()
        assert revocations.may_concern(["token:late"])

    with_services(work)


def test_a_closure_token_reads_its_closure_and_all_else_is_missing(shared_hub: Hub) -> None:
    acme = Acme(shared_hub)
    mine, other = chain("mine"), chain("other", content=b"o")
    acme.publish("1.0.0", mine)
    acme.publish("2.0.0", other)
    token = acme.resolve("=1.0.0").json()["token"]

    def status(path: str) -> int:
        return shared_hub.request("GET", path, token=token).status

    for root in ("", acme.cache):
        assert [status(f"{root}/{each.path.hash_part}.narinfo") for each in mine] == [200, 200, 200]
        strangers = [each for each in other if each.path not in [own.path for own in mine]]
        assert {status(f"{root}/{each.path.hash_part}.narinfo") for each in strangers} == {404}
    manifests = [acme.resolve(f"={version}").json()["manifest"][7:] for version in ("1.0.0", "2.0.0")]
    assert [status(f"{acme.cache}/manifest/{digest}") for digest in manifests] == [200, 404]
    for path in (
        acme.base,
        f"{acme.base}/releases",
        f"/f/{acme.organization}/web/1",
        f"{acme.cache}/log/x.drv",
    ):
        assert status(path) == 404
    assert status(f"/api/v1/organizations/{acme.organization}") == 404


@pytest.mark.parametrize(
    ("requirement", "attribute", "status", "ref"),
    [
        ("1", ATTRIBUTE, 200, None),
        ("=1.0.0", ATTRIBUTE, 200, None),
        ("=v1.0.0", ATTRIBUTE, 200, None),
        ("*", ATTRIBUTE, 403, "requirement-not-allowed"),
        ("1.0", ATTRIBUTE, 403, "requirement-not-allowed"),
        ("=2.0.0", ATTRIBUTE, 403, "requirement-not-allowed"),
        ("=1", ATTRIBUTE, 403, "requirement-not-allowed"),
        ("nonsense", ATTRIBUTE, 403, "requirement-not-allowed"),
        ("1", "packages.x86_64-linux.other", 403, "forbidden"),
    ],
)
def test_a_resolve_only_token_resolves_what_it_is_bound_to(
    bound_acme: tuple[Acme, str], requirement: str, attribute: str, status: int, ref: str | None
) -> None:
    acme, token = bound_acme
    answer = acme.resolve(requirement, attribute, token=token)
    assert answer.status == status, answer.body
    assert ref is None or answer.ref == ref


def test_a_resolve_only_token_reads_nothing_else(bound_acme: tuple[Acme, str]) -> None:
    acme, token = bound_acme
    acme.add_project("open", "public")
    refused = {
        acme.base: 403,
        f"{acme.base}/releases": 403,
        f"{acme.base}/releases/1/source": 403,
        f"{acme.cache}/nix-cache-info": 403,
        f"/f/{acme.organization}/web/1": 403,
        f"/api/v1/projects/{acme.organization}/open": 404,
        f"/api/v1/organizations/{acme.organization}": 404,
        "/api/v1/organizations": 403,
        "/api/v1/projects": 403,
    }
    for path, status in refused.items():
        assert acme.hub.request("GET", path, token=token).status == status, path
    said = acme.hub.request("GET", "/api/v1/status", token=token).json()
    assert (said["user"], said["organizations"]) == (acme.organization, [])
    assert list(said["public_keys"]) == [acme.organization]


def test_a_token_with_a_minimum_version_does_not_go_below_it(shared_hub: Hub) -> None:
    acme = Acme(shared_hub)
    acme.publish("1.0.0", chain("app"))
    bound = {"kind": "resolve-only", "project": "web", "requirement": "1", "attribute": ATTRIBUTE}
    token = shared_hub.make_token(acme.organization, **bound, minimum_version="1.1.0")
    assert acme.resolve("1", token=token).ref == "requirement-not-allowed"
    acme.publish("1.1.0", chain("app", content=b"2"))
    assert acme.resolve("1", token=token).json()["version"] == "1.1.0"
    assert acme.resolve("=1.0.0", token=token).ref == "requirement-not-allowed"


def test_creating_a_bound_token_tells_which_versions_it_allows(shared_hub: Hub) -> None:
    acme = Acme(shared_hub)
    for version in ("1.0.0", "1.2.0", "2.0.0", "1.3.0-beta"):
        acme.publish(version, chain("app", content=version.encode()))
    asked = {
        "kind": "resolve-only",
        "description": "x",
        "project": f"{acme.organization.upper()}/WEB",
        "requirement": "1",
        "attribute": 'nixosConfigurations."web"',
    }
    made = shared_hub.as_admin("POST", f"/api/v1/organizations/{acme.organization}/tokens", json=asked)
    assert made["allowed_versions"] == ["1.2.0", "1.0.0"]
    assert (made["project"], made["attribute"]) == ("web", "nixosConfigurations.web")


def test_revocations_are_forgotten_after_their_use_and_numbers_never_come_again(
    with_services: RunWithServices[None],
) -> None:
    async def work(services: Services) -> None:
        for name in ("a", "b"):
            async with services.database.transaction() as connection:
                await services.revocations.add_token(connection, name)
        async with services.database.transaction() as connection:
            await queries.forget_revocations(connection, services.clock() + 1)
        async with services.database.transaction() as connection:
            await services.revocations.add_token(connection, "c")
        rows = await services.database.all("SELECT number, subject FROM revocation ORDER BY number")
        assert [(row["number"], row["subject"]) for row in rows] == [(2, "token:b"), (3, "token:c")]

    with_services(work)


@pytest.fixture
def bound_acme(shared_hub: Hub) -> tuple[Acme, str]:
    """A project with releases 1.0.0 and 2.0.0, and a token that is bound to `1`."""
    acme = Acme(shared_hub)
    acme.publish("1.0.0", chain("app"))
    acme.publish("2.0.0", chain("app", content=b"2"))
    bound = {"kind": "resolve-only", "project": "web", "requirement": "1", "attribute": ATTRIBUTE}
    return acme, shared_hub.make_token(acme.organization, **bound)
