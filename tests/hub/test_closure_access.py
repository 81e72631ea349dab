"""A closure token reads one closure, everywhere where the hub serves, and ends everywhere within a second."""

import time
from collections.abc import Callable

import pytest

from piste.hub.access import queries
from piste.hub.services import Services
from tests.hub.conftest import RunWithServices
from tests.hub.process import Hub
from tests.hub.publishing import Acme, chain
from tests.running.closures import ATTRIBUTE


def test_a_revoked_token_takes_its_closure_tokens_along_in_every_process_within_a_second(
    make_hub: Callable[..., Hub], database_url: str | None
) -> None:
    first = make_hub(database=database_url)
    second = make_hub(data=first.data, database=database_url)
    acme = Acme(first)
    closure = chain("app")
    acme.publish("1.0.0", closure)
    bound = {"kind": "resolve-only", "project": "web", "requirement": "1", "attribute": ATTRIBUTE}
    parent = first.make_token(acme.organization, **bound)
    token = acme.resolve("1", token=parent).json()["token"]
    place = f"{acme.cache}/{closure[0].path.hash_part}.narinfo"
    assert [each.request("GET", place, token=token).status for each in (first, second)] == [200, 200]

    tokens = f"/api/v1/organizations/{acme.organization}/tokens"
    listed = first.as_admin("GET", tokens)
    (made,) = [each["id"] for each in listed if each["kind"] == "resolve-only"]
    first.as_admin("DELETE", f"{tokens}/{made}")
    revoked = time.monotonic()
    for each in (first, second):
        while each.request("GET", place, token=token).status != 401:
            assert time.monotonic() - revoked < 2, "a second, and one more for a busy machine"
    assert first.request("GET", "/api/v1/status", token=parent).status == 401


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
