"""The identity of a CI as foreign clients send it: the JWT itself, to many routes, as long as it lives."""

import asyncio
import json
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import pytest

from piste.hub.access.queries import organization_by_name, project_by_name
from piste.hub.access.records import Actor, Kind, Permission
from piste.hub.access.rules import decide
from piste.hub.errors import HubError
from piste.hub.identities.foreign import GRACE
from piste.hub.identities.tokens import SKEW
from piste.hub.publish import opening
from piste.hub.registry import projects
from piste.hub.services import Services
from piste.lib.clock import SECOND
from piste.wire.publication import OpenPublication
from piste.wire.releases import NewProject
from tests.hub.process import Answer, Hub, wait_for
from tests.hub.publishing import Acme, chain
from tests.identities.conftest import CLAIMS, MovingClock, RunWithServices
from tests.identities.openid import Provider
from tests.identities.test_exchange import WRONG, as_session, exchange, openings, trust
from tests.identities.test_tokens import trust as trust_in_services
from tests.running.closures import ATTRIBUTE


@pytest.fixture
def acme(hub: Hub) -> Acme:
    return Acme(hub)


def basic(identity: str) -> dict[str, str]:
    return {"Authorization": "Basic " + b64encode(f"flakehub:{identity}".encode()).decode()}


def test_one_identity_is_sent_to_many_routes_and_publishes(acme: Acme, provider: Provider) -> None:
    trust(acme, provider)
    identity = provider.mint()
    publisher = as_session(acme, identity)
    closure = chain("web")
    published = publisher.publish("1.0.0", closure)
    assert published["created"]
    assert acme.resolve("1").status == 200
    assert publisher.narinfo(closure[-1]).status == 200
    assert acme.hub.request("GET", f"/{closure[-1].path.hash_part}.narinfo", token=identity).status == 200
    status = acme.hub.request("GET", "/api/v1/status", token=identity).json()
    assert (status["kind"], status["user"], status["organizations"]) == ("identity", acme.organization, [])
    # Nothing of this was an exchange, which is still to be had, once.
    assert exchange(acme, identity).status == 201


def test_it_is_taken_as_bearer_in_any_spelling_and_as_the_password_of_basic(
    acme: Acme, provider: Provider
) -> None:
    trust(acme, provider)
    identity, place = provider.mint(), f"{acme.cache}/nix-cache-info"
    for headers in ({"Authorization": f"bearer {identity}"}, {"Authorization": f"BEARER {identity}"}):
        assert acme.hub.request("GET", place, headers=headers).status == 200
    assert acme.hub.request("GET", place, headers=basic(identity)).status == 200
    user = {"Authorization": "Basic " + b64encode(f"{identity}:x".encode()).decode()}
    assert acme.hub.request("GET", place, headers=user).ref == "credential-as-user-name"


def test_it_does_nothing_but_publish_and_read_and_fill_the_cache(acme: Acme, provider: Provider) -> None:
    acme.publish("0.9.0", chain("web"))
    acme.add_project("other")
    acme.add_project("open", "public")
    trust(acme, provider)
    identity = provider.mint()
    organization, each = f"/api/v1/organizations/{acme.organization}", "/api/v1/projects"
    refused = [
        ("GET", organization),
        ("GET", f"{organization}/tokens"),
        ("POST", f"{organization}/tokens"),
        ("GET", f"{organization}/trust"),
        ("POST", f"{organization}/projects"),
        ("POST", "/api/v1/organizations"),
        ("GET", each),
        ("GET", acme.base),
        ("PATCH", acme.base),
        ("GET", f"{acme.base}/releases"),
        ("GET", f"{acme.base}/releases/0.9/source"),
        ("PUT", f"{acme.base}/releases/0.9.0/yank"),
        ("GET", f"{acme.base}/resolve/0.9/{ATTRIBUTE}"),
        ("GET", f"/f/{acme.organization}/web/0.9"),
        ("GET", f"{each}/{acme.organization}/open"),
        ("GET", f"/cache/{acme.organization}/open/nix-cache-info"),
        ("GET", f"/cache/{acme.organization}/other/nix-cache-info"),
        ("POST", f"{each}/{acme.organization}/other/publications"),
    ]
    for method, path in refused:
        answer = acme.hub.request(method, path, token=identity, json={"name": "x", "version": "1.0.0"})
        assert answer.status in (403, 404), f"{method} {path}: {answer.status}"


def test_the_root_is_the_union_of_the_projects_it_is_trusted_with(acme: Acme, provider: Provider) -> None:
    acme.add_project("also")
    acme.add_project("not")
    paths = {name: chain(name, 1, acme.organization.encode())[0] for name in ("web", "also", "not")}
    for name, path in paths.items():
        acme.publish("1.0.0", [path], project=name)
    trust(acme, provider)
    trust(acme, provider, project="also")
    identity = provider.mint()

    def read(name: str) -> int:
        place = f"/{paths[name].path.hash_part}.narinfo"
        return acme.hub.request("GET", place, headers=basic(identity)).status

    assert [read("web"), read("also"), read("not")] == [200, 200, 404]


def test_whoever_no_rule_trusts_is_refused_at_every_door(acme: Acme, provider: Provider) -> None:
    trust(acme, provider)
    for claims in WRONG:
        identity = provider.mint(**claims)
        for method, path in (("GET", "/api/v1/status"), ("POST", f"{acme.base}/publications")):
            answer = acme.hub.request(method, path, token=identity)
            assert (answer.status, answer.ref) == (403, "identity-not-trusted"), claims
    assert acme.hub.request("GET", acme.base, token=provider.mint(iss="https://evil.test")).status == 401


def test_a_foreign_hub_s_audience_counts_only_where_a_rule_names_it(acme: Acme, provider: Provider) -> None:
    trust(acme, provider)
    identity = provider.mint(aud="api.flakehub.com")
    assert openings(acme, identity).ref == "identity-not-trusted"
    trust(acme, provider, audience="api.flakehub.com")
    assert openings(acme, identity).status == 201


def test_a_rule_that_is_removed_ends_at_once_what_it_gave(acme: Acme, provider: Provider) -> None:
    rule = trust(acme, provider)
    other = trust(acme, provider, project="later")
    identity = provider.mint()
    path = chain("web", 1)[0]
    acme.publish("0.9.0", [path])
    assert openings(acme, identity).status == 201
    assert as_session(acme, identity).narinfo(path).status == 200
    place = f"/api/v1/organizations/{acme.organization}/trust"
    acme.hub.as_admin("DELETE", f"{place}/{rule['id']}")
    assert openings(acme, identity).status == 404
    wait_for(lambda: as_session(acme, identity).narinfo(path).status == 404, seconds=1)
    acme.hub.as_admin("DELETE", f"{place}/{other['id']}")
    assert openings(acme, identity).status in (401, 403)


def test_trust_that_waits_lets_it_make_that_project_and_no_other(acme: Acme, provider: Provider) -> None:
    trust(acme, provider, project="New")
    identity, place = provider.mint(), f"/api/v1/organizations/{acme.organization}/projects"

    def make(organization: str, name: str) -> Answer:
        asked = {"name": name, "visibility": "private"}
        place = f"/api/v1/organizations/{organization}/projects"
        return acme.hub.request("POST", place, token=identity, json=asked)

    assert make(acme.organization, "other").status == 404
    assert make(Acme(acme.hub).organization, "new").status == 404
    assert make(acme.organization, "new").status == 201
    made = as_session(acme, identity)
    made.project = "new"
    assert made.publish("1.0.0", chain("new"))["created"]
    # It makes it once: who deletes the project ends the trust.
    acme.hub.as_admin("DELETE", f"/api/v1/projects/{acme.organization}/new")
    assert acme.hub.request("POST", place, token=identity, json={"name": "new"}).status in (401, 403)


def test_it_touches_no_publication_that_it_did_not_open_or_join(acme: Acme, provider: Provider) -> None:
    trust(acme, provider)
    first, second = provider.mint(), provider.mint()
    others, own = acme.open("1.0.0"), openings(acme, first).json()["id"]
    for place in (others.place, f"{acme.base}/publications/{own}"):
        for method, end in (("GET", ""), ("DELETE", ""), ("POST", "/finish")):
            assert acme.hub.request(method, place + end, token=second).status == 404
    assert acme.hub.request("GET", f"{acme.base}/publications/{own}", token=first).status == 200
    joined = [openings(acme, identity, "2.0.0", stage="run-7") for identity in (first, second)]
    assert [answer.status for answer in joined] == [201, 200]


def test_the_audit_log_names_issuer_and_subject(acme: Acme, provider: Provider) -> None:
    trust(acme, provider)
    openings(acme, provider.mint())
    acme.hub.request("PATCH", acme.base, token=provider.mint(), json={"visibility": "public"})
    acme.hub.request("GET", "/api/v1/projects", token=provider.mint())
    place = f"/api/v1/organizations/{acme.organization}/audit"

    def entries() -> list[dict[str, Any]]:
        lines = acme.hub.request("GET", place, token=acme.hub.admin).body.splitlines()
        found = [json.loads(line) for line in lines]
        return [each for each in found if each["kind"] == "identity"]

    wait_for(lambda: len(entries()) == 3)
    for entry in entries():
        assert (entry["issuer"], entry["name"]) == (provider.issuer, CLAIMS["sub"])
    assert [entry["allowed"] for entry in entries()] == [True, False, False]


def test_keys_that_are_rotated_stop_no_run(acme: Acme, provider: Provider) -> None:
    trust(acme, provider)
    assert openings(acme, provider.mint()).status == 201
    provider.tell("rotate", algorithm="ES256", kid="second")
    assert openings(acme, provider.mint()).status == 201


def test_an_issuer_that_is_down_stops_no_identity_whose_keys_are_known(
    acme: Acme, provider: Provider
) -> None:
    trust(acme, provider)
    identities = [provider.mint(), provider.mint()]
    assert openings(acme, identities[0]).status == 201
    provider.close()
    assert openings(acme, identities[1]).status == 201


def headers_of(identity: str) -> Sequence[tuple[bytes, bytes]]:
    return [(b"authorization", f"Bearer {identity}".encode())]


async def in_services(services: Services, identity: str, *, late: bool = False) -> Actor:
    return await services.authenticator.authenticate(headers_of(identity), late=late)


async def opened(services: Services, actor: Actor, version: str = "1.0.0") -> str:
    """The id of a publication of acme/web that the actor opened."""
    project = await project_by_name(services.database, "acme", "web")
    assert project is not None
    wanted = OpenPublication(version)
    return (await opening.open_publication(services, project, actor, wanted))[0].id


async def make_web(services: Services, provider: Provider) -> None:
    await trust_in_services(services, provider.issuer)
    organization = await organization_by_name(services.database, "acme")
    assert organization is not None
    await projects.create(services, organization, NewProject("web", "private"))


def test_what_was_opened_in_time_is_finished_a_while_after_the_identity_s_end(
    provider: Provider, with_services: RunWithServices[None], clock: MovingClock
) -> None:
    async def work(services: Services) -> None:
        await make_web(services, provider)
        identity, other = provider.mint(), provider.mint()
        actor = await in_services(services, identity)
        own = await opened(services, actor)
        foreign = await opened(services, await in_services(services, other))
        assert actor.expires_at is not None
        clock.ahead += actor.expires_at - services.clock() + SECOND
        # For everything else it has ended.
        with pytest.raises(HubError) as caught:
            await in_services(services, identity)
        assert caught.value.ref == "identity-expired"
        late = await in_services(services, identity, late=True)
        project, row = await opening.find_to_finish(services, late, own)
        assert (project.name, row.id) == ("web", own)
        allowed = {each for each in Permission if decide(late, each, project).allowed}
        assert allowed == {Permission.UPLOAD_FINISH}
        # Only that one: not another identity's upload, be it of the same run.
        for missing in (foreign, "018f0000-0000-7000-8000-000000000001"):
            with pytest.raises(HubError) as caught:
                await opening.find_to_finish(services, late, missing)
            assert caught.value.ref == "not-found"
        clock.ahead += GRACE * SECOND
        with pytest.raises(HubError) as caught:
            await in_services(services, identity, late=True)
        assert caught.value.ref == "identity-expired"

    with_services(work)


def test_a_late_identity_whose_rule_is_gone_finishes_nothing(
    provider: Provider, with_services: RunWithServices[None], clock: MovingClock
) -> None:
    async def work(services: Services) -> None:
        await make_web(services, provider)
        identity = provider.mint()
        actor = await in_services(services, identity)
        await opened(services, actor)
        assert actor.expires_at is not None
        clock.ahead += actor.expires_at - services.clock() + SECOND
        await in_services(services, identity, late=True)
        async with services.database.transaction() as connection:
            await connection.run("DELETE FROM trust_rule")
        with pytest.raises(HubError) as caught:
            await in_services(services, identity, late=True)
        assert caught.value.status in (401, 403)

    with_services(work)


def test_a_late_identity_that_was_never_seen_before_has_nothing_to_finish(
    provider: Provider, with_services: RunWithServices[None], clock: MovingClock
) -> None:
    async def work(services: Services) -> None:
        await make_web(services, provider)
        fresh = await opened(services, await in_services(services, provider.mint()))
        identity = provider.mint()
        clock.ahead += (300 + SKEW + 60) * SECOND
        late = await in_services(services, identity, late=True)
        assert late.kind is Kind.IDENTITY and late.trusted is not None and late.trusted.late
        with pytest.raises(HubError):
            await opening.find_to_finish(services, late, fresh)

    with_services(work)


def test_persons_finish_by_its_id_what_their_project_has_and_strangers_nothing(
    provider: Provider, with_services: RunWithServices[None]
) -> None:
    async def work(services: Services) -> None:
        await make_web(services, provider)
        project = await project_by_name(services.database, "acme", "web")
        assert project is not None
        member = Actor(kind=Kind.USER, token="t", person="p", roles={project.organization: "member"})  # type: ignore[dict-item]
        publication = await opened(services, member)
        assert (await opening.find_to_finish(services, member, publication))[1].id == publication
        for stranger in (Actor(), Actor(kind=Kind.USER, person="q"), Actor(kind=Kind.DEVICE)):
            with pytest.raises(HubError) as caught:
                await opening.find_to_finish(services, stranger, publication)
            assert caught.value.ref == "not-found"

    with_services(work)


def test_what_was_verified_is_not_verified_again_within_a_minute(
    provider: Provider, with_services: RunWithServices[None]
) -> None:
    async def work(services: Services) -> None:
        await make_web(services, provider)
        identity = provider.mint()
        first = await in_services(services, identity)
        asked = 0
        verify = services.identities.verify

        async def counted(text: str, *, late: int = 0) -> Any:
            nonlocal asked
            asked += 1
            return await verify(text, late=late)

        services.identities.verify = counted  # type: ignore[method-assign]
        actors = await asyncio.gather(*(in_services(services, identity) for _ in range(50)))
        assert (asked, set(map(repr, actors))) == (0, {repr(first)})
        await in_services(services, provider.mint())
        assert asked == 1

    with_services(work)
