"""What was only recorded becomes available by itself: pushed to the project, held by an upstream, or in
another project of the organization that the publisher may read; and by nothing else."""

import asyncio
import os
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest

from piste.hub.access.queries import project_by_name
from piste.hub.app import build
from piste.hub.registry.availability import ensure_available
from piste.hub.registry.queries import output as output_of
from piste.hub.registry.queries import release_by_id
from piste.hub.services import Services
from piste.hub.settings import make_settings
from piste.nix.narinfo import parse_narinfo
from piste.nix.signature import SecretKey
from tests.dialects.attic.exchanges import Client, cache_of
from tests.dialects.flakehub_push.pusher import Pusher, inventory, leaf
from tests.dialects.flakehub_push.upstream import Upstream, running_upstream
from tests.hub.process import Hub
from tests.hub.publishing import Acme, chain
from tests.identities.openid import Certificate
from tests.running.closures import ATTRIBUTE, Member, member, new_path
from tests.running.hubs import fetching_hub


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def hub(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, certificate: Certificate
) -> Iterator[Hub]:
    """A hub that may fetch from this machine."""
    with fetching_hub(request, tmp_path_factory) as running:
        yield running


@pytest.fixture
def acme(hub: Hub) -> Acme:
    return Acme(hub)


@pytest.fixture
def upstream(certificate: Certificate, acme: Acme) -> Iterator[Upstream]:
    with running_upstream(certificate) as running:
        trusted = {"url": running.url, "public_keys": [str(running.key.public)]}
        acme.hub.as_admin("POST", f"/api/v1/organizations/{acme.organization}/upstreams", json=trusted)
        yield running


def publish(acme: Acme, root: Member, *, token: str | None = None, version: str = "1.0.0") -> None:
    outputs = inventory({"nixosConfigurations": {"web": leaf(str(root.path))}})
    name = f"{acme.organization}/{acme.project}"
    Pusher(
        acme.hub, token or acme.member, name, version, said={"visibility": "private", "outputs": outputs}
    ).run()


def push(acme: Acme, closure: Sequence[Member], project: str = "web") -> None:
    """As magic-nix-cache pushes, in no order, and without what it knows an upstream to have."""
    name = f"{acme.organization}/{project}"
    Client(acme.hub, cache_of(acme.hub, acme.member, name), acme.member).push(closure)


def missing(acme: Acme) -> int:
    answer = acme.resolve("1")
    assert (answer.status, answer.ref) == (404, "output-not-available"), answer.body
    return int(answer.json()["error"]["context"]["missing"])


def available(acme: Acme, closure: Sequence[Member]) -> dict[str, Any]:
    """That it is, and that the token of one closure reads all of it."""
    answer = acme.resolve("1")
    assert answer.status == 200, answer.body
    found: dict[str, Any] = answer.json()
    for path in closure:
        assert acme.narinfo(path, token=found["token"]).status == 200
    return found


def test_what_is_pushed_piece_by_piece_is_available_with_the_last_one(acme: Acme) -> None:
    closure = chain("pushed", 4, acme.organization.encode())
    publish(acme, closure[-1])
    assert missing(acme) == 1
    push(acme, closure[2:])
    assert missing(acme) == 1
    push(acme, closure[:1])
    assert missing(acme) == 1
    push(acme, closure[1:2])
    available(acme, closure)


def test_what_an_upstream_holds_of_a_closure_is_pinned_and_never_pushed(
    acme: Acme, upstream: Upstream
) -> None:
    closure = chain("mixed", 5, acme.organization.encode())
    upstream.hold(closure[:3])
    push(acme, closure[3:])
    publish(acme, closure[-1])
    found = available(acme, closure)
    narinfo = parse_narinfo(acme.narinfo(closure[0], token=found["token"]).body.decode())
    names = {signature.partition(":")[0] for signature in narinfo.info.signatures}
    assert "upstream-1" in names
    assert len(names) == 2  # and the organization's own
    moved = acme.ask("GET", f"{acme.cache}/{narinfo.url}", token=found["token"])
    assert (moved.status, moved.headers["location"]) == (
        307,
        f"{upstream.url}/nar/{closure[0].nar_hash.base32}.nar",
    )


def test_a_closure_that_is_wholly_at_an_upstream_needs_no_push_at_all(acme: Acme, upstream: Upstream) -> None:
    closure = chain("there", 3, acme.organization.encode())
    upstream.hold(closure)
    publish(acme, closure[-1])
    available(acme, closure)


def test_an_upstream_without_a_trusted_signature_counts_for_nothing(acme: Acme, upstream: Upstream) -> None:
    closure = chain("forged", 2, acme.organization.encode())
    upstream.hold(closure, SecretKey.generate("upstream-1"))
    publish(acme, closure[-1])
    assert missing(acme) == 1
    push(acme, closure)
    available(acme, closure)


def test_an_upstream_that_gives_another_path_counts_for_nothing(acme: Acme, upstream: Upstream) -> None:
    path, other = chain("one", 1, acme.organization.encode())[0], chain("two", 1, b"other")[0]
    upstream.hold([other])
    upstream.files[f"/{path.path.hash_part}.narinfo"] = upstream.files[f"/{other.path.hash_part}.narinfo"]
    publish(acme, path)
    assert missing(acme) == 1


def test_an_upstream_is_asked_once_for_what_it_does_not_have(acme: Acme, upstream: Upstream) -> None:
    closure = chain("absent", 1, acme.organization.encode())
    publish(acme, closure[-1])
    for _ in range(5):
        assert missing(acme) == 1
    assert len(upstream.asked) == 1


def test_what_was_found_within_the_time_of_a_question_stays_and_the_next_goes_on(
    hub: Hub, certificate: Certificate, upstream: Upstream, acme: Acme
) -> None:
    closure = chain("long", 6, acme.organization.encode())
    upstream.hold(closure)
    publish(acme, closure[-1])

    async def ask(services: Services, seconds: float) -> int:
        project = await project_by_name(services.database, acme.organization, acme.project)
        assert project is not None
        row = await services.database.one("SELECT id FROM release WHERE project = $1", project.id)
        assert row is not None
        release = await release_by_id(services.database, project.id, row["id"])
        output = await output_of(services.database, row["id"], ATTRIBUTE)
        assert release is not None and output is not None
        services.upstreams.seconds = seconds
        found = await ensure_available(services, project, release, output)
        return found if isinstance(found, int) else -1

    async def both() -> tuple[int, int]:
        settings = make_settings(
            hub.data, listen="127.0.0.1:1", database=hub.database, allow_egress=("localhost",)
        )
        async with AsyncExitStack() as stack:
            services = await build(settings, stack)
            return await ask(services, 0.0), await ask(services, 60.0)

    assert asyncio.run(both()) == (1, -1)
    available(acme, closure)


def test_an_upstream_that_does_not_answer_leaves_a_404_that_counts(acme: Acme) -> None:
    dead = {"url": "https://localhost:1/cache", "public_keys": [str(SecretKey.generate("dead-1").public)]}
    acme.hub.as_admin("POST", f"/api/v1/organizations/{acme.organization}/upstreams", json=dead)
    closure = chain("dead", 3, acme.organization.encode())
    publish(acme, closure[-1])
    push(acme, closure[1:])
    assert missing(acme) == 1


def test_paths_of_another_project_that_the_publisher_reads_count(acme: Acme) -> None:
    acme.add_project("other")
    closure = chain("shared", 3, acme.organization.encode())
    push(acme, closure[:2], "other")
    publish(acme, closure[-1])
    assert missing(acme) == 1
    push(acme, closure[2:])
    available(acme, closure)


def test_paths_that_come_to_another_project_later_count_too(acme: Acme) -> None:
    acme.add_project("other")
    closure = chain("later", 3, acme.organization.encode())
    publish(acme, closure[-1])
    push(acme, closure, "other")
    available(acme, closure)


def test_what_is_there_already_is_available_with_the_release_itself(acme: Acme) -> None:
    acme.add_project("other")
    closure = chain("before", 3, acme.organization.encode())
    push(acme, closure[:1], "other")
    push(acme, closure[1:])
    publish(acme, closure[-1])
    outputs = acme.ask("GET", f"{acme.base}/releases/1").json()["outputs"]
    assert [each["available"] for each in outputs] == [True]


def test_a_circle_that_was_pushed_before_keeps_no_release_from_being_published(acme: Acme) -> None:
    first, second = new_path("first", acme.organization), new_path("second", acme.organization)
    circle = [
        Member(first, member("first", 1, os.urandom(8), [second]).nar, (second,)),
        Member(second, member("second", 1, os.urandom(8), [first]).nar, (first,)),
    ]
    push(acme, circle)
    publish(acme, circle[0])
    assert acme.resolve("1").status == 404


def test_the_paths_of_one_who_has_left_the_organization_are_looked_for_no_further(acme: Acme) -> None:
    acme.add_project("other")
    leaver = acme.hub.make_member(acme.organization, f"{acme.organization}-leaver")
    closure = chain("left", 2, acme.organization.encode())
    publish(acme, closure[-1], token=leaver)
    place = f"/api/v1/organizations/{acme.organization}/members/{acme.organization}-leaver"
    acme.hub.as_admin("DELETE", place)
    push(acme, closure, "other")
    assert missing(acme) == 1
    push(acme, closure)
    available(acme, closure)


def test_what_another_organization_has_counts_for_nothing_even_in_public(acme: Acme) -> None:
    others = Acme(acme.hub, visibility="public")
    closure = chain("foreign", 2, acme.organization.encode())
    push(others, closure)
    publish(acme, closure[-1])
    assert missing(acme) == 1


def test_other_content_than_the_organization_has_is_refused_and_noted(acme: Acme, upstream: Upstream) -> None:
    acme.add_project("other")
    leaver = acme.hub.make_member(acme.organization, f"{acme.organization}-leaver")
    ours, content = chain("differs", 1, b"ours")[0], chain("differs", 1, b"theirs")[0]
    publish(acme, ours, token=leaver)
    place = f"/api/v1/organizations/{acme.organization}/members/{acme.organization}-leaver"
    acme.hub.as_admin("DELETE", place)
    push(acme, [ours], "other")
    upstream.hold([Member(ours.path, content.nar, ())])
    answer = acme.resolve("1")
    assert (answer.status, answer.ref) == (409, "path-conflict")
    assert acme.narinfo(ours).status == 404
