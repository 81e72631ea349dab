"""An identity becomes a session that publishes one thing: over HTTP, on both engines."""

import asyncio
import base64
import json
import threading
from typing import Any

import asyncpg
import pytest

from tests.hub.process import Answer, Hub
from tests.hub.publishing import REVISION, Acme, chain
from tests.identities.conftest import CLAIMS
from tests.identities.openid import Provider
from tests.running.closures import ATTRIBUTE


@pytest.fixture
def acme(hub: Hub) -> Acme:
    return Acme(hub)


def trust(acme: Acme, provider: Provider, project: str = "web", **fields: Any) -> dict[str, Any]:
    """A rule of the project for the provider's repository 123 on main."""
    asked = {
        "project": project,
        "issuer": provider.issuer,
        "claims": {"repository_id": ["123"], "ref": ["refs/heads/main"], "event_name": ["push"]},
        **fields,
    }
    place = f"/api/v1/organizations/{acme.organization}/trust"
    found: dict[str, Any] = acme.hub.as_admin("POST", place, json=asked)
    return found


def exchange(acme: Acme, identity: str | None, project: str = "web", **fields: Any) -> Answer:
    asked = {"organization": acme.organization, "project": project, "version": "1.0.0", **fields}
    return acme.hub.request("POST", "/api/v1/identities/session", token=identity, json=asked)


def session(acme: Acme, provider: Provider, **fields: Any) -> str:
    answer = exchange(acme, provider.mint(), **fields)
    assert answer.status == 201, answer.body
    token: str = answer.json()["token"]
    return token


def as_session(acme: Acme, token: str) -> Acme:
    """The organization as the holder of a session sees it."""
    found = object.__new__(Acme)
    found.__dict__.update(acme.__dict__, member=token)
    return found


def openings(acme: Acme, token: str, version: str = "1.0.0", **fields: Any) -> Answer:
    asked = {"version": version, "metadata": {"revision": REVISION}, **fields}
    return acme.hub.request("POST", f"{acme.base}/publications", token=token, json=asked)


def test_an_identity_is_exchanged_for_a_session_that_publishes(acme: Acme, provider: Provider) -> None:
    rule = trust(acme, provider)
    assert (rule["audience"], rule["pending"], rule["created_by"]) == ("127.0.0.1", False, "admin")
    answer = exchange(acme, provider.mint())
    assert answer.status == 201 and answer.headers["cache-control"] == "no-store"
    made = answer.json()
    assert made["token"].startswith("piste_session_")
    publisher = as_session(acme, made["token"])
    closure = chain("web")
    published = publisher.publish("1.0.0", closure)
    assert published["created"] and published["outputs"] == {ATTRIBUTE: str(closure[-1].path)}
    assert acme.resolve("1").status == 200


def test_paths_that_the_project_has_are_not_uploaded_again(acme: Acme, provider: Provider) -> None:
    closure = chain("web")
    acme.publish("0.9.0", closure)
    trust(acme, provider)
    filling = as_session(acme, session(acme, provider)).open("1.0.0")
    assert filling.declare(closure, {ATTRIBUTE: closure[-1]}) == {"missing": [], "present": 3, "pinned": 0}


def test_paths_of_other_projects_are_not_spoken_of(acme: Acme, provider: Provider) -> None:
    closure = chain("web")
    acme.add_project("other")
    acme.publish("0.9.0", closure, project="other")
    trust(acme, provider)
    filling = as_session(acme, session(acme, provider)).open("1.0.0")
    assert len(filling.declare(closure, {ATTRIBUTE: closure[-1]})["missing"]) == 3


def test_a_session_may_nothing_else(acme: Acme, provider: Provider) -> None:
    acme.publish("0.9.0", chain("web"))
    acme.add_project("other")
    acme.add_project("open", "public")
    trust(acme, provider)
    token = session(acme, provider)
    organization, projects = f"/api/v1/organizations/{acme.organization}", "/api/v1/projects"
    refused = [
        ("GET", organization),
        ("GET", f"{organization}/members"),
        ("GET", f"{organization}/tokens"),
        ("GET", f"{organization}/trust"),
        ("GET", f"{organization}/upstreams"),
        ("POST", f"{organization}/projects"),
        ("POST", "/api/v1/organizations"),
        ("GET", projects),
        ("GET", acme.base),
        ("PATCH", acme.base),
        ("DELETE", acme.base),
        ("GET", f"{acme.base}/releases"),
        ("GET", f"{acme.base}/releases/0.9"),
        ("GET", f"{acme.base}/releases/0.9/source"),
        ("PUT", f"{acme.base}/releases/0.9.0/yank"),
        ("GET", f"{acme.base}/resolve/0.9/{ATTRIBUTE}"),
        ("GET", f"/f/{acme.organization}/web/0.9"),
        ("GET", f"{acme.cache}/nix-cache-info"),
        ("PUT", f"{acme.cache}/nar/{'0' * 52}.nar"),
        ("GET", f"{projects}/{acme.organization}/open"),
        ("POST", f"{projects}/{acme.organization}/other/publications"),
        ("POST", f"{projects}/{acme.organization}/open/publications"),
    ]
    for method, path in refused:
        answer = acme.hub.request(method, path, token=token, json={"name": "x", "version": "1.0.0"})
        assert answer.status in (403, 404), f"{method} {path}: {answer.status}"
    status = acme.hub.request("GET", "/api/v1/status", token=token).json()
    assert (status["kind"], status["user"], status["organizations"]) == ("session", acme.organization, [])


def test_a_session_publishes_that_version_under_that_stage_and_no_other(
    acme: Acme, provider: Provider
) -> None:
    trust(acme, provider)
    token = session(acme, provider, version="v1.0.0", stage="run-7")
    rolling = f"0.1.5+rev-{REVISION}"
    for version, fields in (
        ("1.0.1", {"stage": "run-7"}),
        ("1.0.0", {}),
        ("1.0.0", {"stage": "run-8"}),
        ("1.0.0-rc.1", {"stage": "run-7"}),
        (rolling, {"stage": "run-7", "rolling": True}),
    ):
        answer = openings(acme, token, version, **fields)
        assert (answer.status, answer.ref) == (403, "forbidden"), version
    assert openings(acme, token, "1.0.0", stage="run-7").status == 201
    other = session(acme, provider, version=rolling, rolling=True)
    assert openings(acme, other, rolling).status == 403  # the same version, but not as a rolling one
    assert openings(acme, other, rolling, rolling=True).status == 201


def test_a_session_touches_no_publication_that_it_did_not_open_or_join(
    acme: Acme, provider: Provider
) -> None:
    trust(acme, provider)
    others = acme.open("1.0.0")
    token = session(acme, provider)
    for method, end in (("GET", ""), ("DELETE", ""), ("POST", "/declarations"), ("POST", "/nars")):
        assert acme.hub.request(method, others.place + end, token=token).status == 404
    for method, end in (("PUT", "/source"), ("POST", "/finish")):
        assert acme.hub.request(method, others.place + end, token=token, body=b"x").status == 404
    second = session(acme, provider)
    own = openings(acme, token).json()["id"]
    assert acme.hub.request("GET", f"{acme.base}/publications/{own}", token=token).status == 200
    assert acme.hub.request("GET", f"{acme.base}/publications/{own}", token=second).status == 404


def test_machines_of_one_stage_fill_one_publication_each_with_a_session(
    acme: Acme, provider: Provider
) -> None:
    trust(acme, provider)
    places = []
    for _ in range(2):
        answer = openings(acme, session(acme, provider, stage="run-7"), stage="run-7")
        places.append((answer.status, answer.json()["id"]))
    assert [status for status, _ in places] == [201, 200]
    assert places[0][1] == places[1][1]


def test_an_identity_is_exchanged_once_even_by_many_at_a_time(acme: Acme, provider: Provider) -> None:
    trust(acme, provider)
    identity = provider.mint()
    answers: list[Answer] = []
    threads = [threading.Thread(target=lambda: answers.append(exchange(acme, identity))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status for answer in answers) == [201] + [401] * 7
    assert {answer.ref for answer in answers if answer.status == 401} == {"identity-used"}
    renamed = provider.mint(jti=json_part(identity)["jti"])
    assert exchange(acme, renamed, version="2.0.0").ref == "identity-used"


WRONG: list[dict[str, Any]] = [
    {"aud": "other.example.org"},
    {"aud": ["other.example.org", "api.flakehub.com"]},
    {"repository_id": "124"},
    {"repository_id": 123},
    {"repository_id": ["123"]},
    {"repository_id": None},
    {"ref": "refs/heads/other"},
    {"ref": "refs/heads/main/evil"},
    {"ref": "refs/pull/7/merge", "event_name": "pull_request"},
    {"event_name": "pull_request_target"},
    {"event_name": True},
]


def test_each_wrong_claim_is_refused(acme: Acme, provider: Provider) -> None:
    trust(acme, provider)
    for claims in WRONG:
        answer = exchange(acme, provider.mint(**claims))
        assert (answer.status, answer.ref) == (403, "identity-not-trusted"), claims
    for name in ("repository_id", "ref", "event_name"):
        provider.claims.pop(name)
        assert exchange(acme, provider.mint()).ref == "identity-not-trusted", name
        provider.claims[name] = CLAIMS[name]
    assert exchange(acme, provider.mint(aud=["x", "127.0.0.1"])).status == 201
    # The reason is for whoever runs the hub.
    lines = acme.hub.log_lines("identity-not-trusted")
    reasons = [line["differences"] for line in lines if line["project"] == f"{acme.organization}/web"]
    assert {"aud"} == set(reasons[0].values()) and {"repository_id"} == set(reasons[2].values())


def test_whoever_is_not_trusted_learns_nothing(acme: Acme, provider: Provider) -> None:
    """A project that is there, one that is not, one of another organization: the same answer."""
    trust(acme, provider)
    other = Acme(acme.hub)

    def told(organization: str, project: str) -> Any:
        asked = {"organization": organization, "project": project, "version": "1.0.0"}
        identity = provider.mint(repository_id="999")
        answer = acme.hub.request("POST", "/api/v1/identities/session", token=identity, json=asked)
        problem = answer.json()["error"]
        problem.pop("request_id")
        return answer.status, problem

    answers = [
        told(acme.organization, "web"),
        told(acme.organization, "nothing"),
        told(other.organization, "web"),
        told("nobody", "web"),
        told("not a name", "../.."),
        told("a\0b", "x" * 100_000),
    ]
    assert all(answer == answers[0] for answer in answers)


def test_trust_in_one_organization_is_none_in_another_with_a_project_of_that_name(
    acme: Acme, provider: Provider
) -> None:
    trust(acme, provider)
    assert exchange(Acme(acme.hub), provider.mint()).ref == "identity-not-trusted"


def test_an_identity_of_another_issuer_is_refused(acme: Acme, provider: Provider) -> None:
    trust(acme, provider, issuer="https://ci.example.org")
    assert exchange(acme, provider.mint()).ref == "identity-invalid"


def test_what_is_no_identity_is_refused(acme: Acme, provider: Provider) -> None:
    trust(acme, provider)
    assert exchange(acme, None).ref == "credential-missing"
    for token in (acme.member, session(acme, provider), "x", "piste_session_x"):
        assert exchange(acme, token).ref == "identity-invalid"
    twice = [("Authorization", f"Bearer {provider.mint()}"), ("Authorization", "Bearer x")]
    connection = acme.hub.connect()
    connection.putrequest("POST", "/api/v1/identities/session")
    for name, value in [*twice, ("Content-Length", "0")]:
        connection.putheader(name, value)
    connection.endheaders()
    assert connection.getresponse().status == 400
    connection.close()


def test_an_issuer_with_odd_characters_is_refused_on_both_engines(acme: Acme, provider: Provider) -> None:
    trust(acme, provider)
    for issuer in ("a\0b", "https://ci.example.org/\u2028", "x" * 2000):
        answer = exchange(acme, provider.mint(iss=issuer))
        assert (answer.status, answer.ref) == (401, "identity-invalid")


def test_a_wish_that_can_t_be_read_is_refused(acme: Acme, provider: Provider) -> None:
    trust(acme, provider)
    assert exchange(acme, provider.mint(), version="one").ref == "bad-version"
    assert exchange(acme, provider.mint(), version="1.0.0", rolling=True).ref == "bad-version"
    assert exchange(acme, provider.mint(), stage="a b").ref == "bad-name"
    assert exchange(acme, provider.mint(), stage=7).ref == "bad-request"


def test_a_session_is_listed_and_revoked_like_any_token(acme: Acme, provider: Provider) -> None:
    trust(acme, provider)
    token = session(acme, provider)
    place = f"/api/v1/organizations/{acme.organization}/tokens"
    (row,) = [each for each in acme.hub.as_admin("GET", place) if each["kind"] == "session"]
    assert (row["project"], row["description"]) == ("web", f"1.0.0 by {CLAIMS['sub']}")
    assert row["expires_at"] - row["created_at"] == 6 * 3600 * 1_000_000
    opened = openings(acme, token)
    acme.hub.as_admin("DELETE", f"{place}/{row['id']}")
    answer = acme.hub.request("POST", f"{acme.base}/publications/{opened.json()['id']}/finish", token=token)
    assert (answer.status, answer.ref) == (401, "credential-unknown")
    made = acme.hub.request(
        "POST", place, token=acme.hub.admin, json={"kind": "session", "description": "by hand"}
    )
    assert made.status == 400


def test_what_a_rule_opened_ends_with_it(acme: Acme, provider: Provider) -> None:
    rule, other = trust(acme, provider), trust(acme, provider, claims={"sub": [CLAIMS["sub"]]})
    token = session(acme, provider)
    place = f"/api/v1/organizations/{acme.organization}/trust"
    acme.hub.as_admin("DELETE", f"{place}/{rule['id']}")
    assert openings(acme, token).ref == "credential-unknown"
    assert [each["id"] for each in acme.hub.as_admin("GET", place)] == [other["id"]]
    by_other = session(acme, provider)
    assert acme.hub.request("DELETE", f"{place}/{rule['id']}", token=acme.hub.admin).status == 404
    assert openings(acme, by_other).status == 201
    acme.hub.as_admin("DELETE", f"{place}/{other['id']}")
    assert exchange(acme, provider.mint()).ref == "identity-invalid"


def test_the_oldest_of_several_rules_opens_a_session(acme: Acme, provider: Provider) -> None:
    place = f"/api/v1/organizations/{acme.organization}/trust"
    removed, oldest = trust(acme, provider), trust(acme, provider)
    acme.hub.as_admin("DELETE", f"{place}/{removed['id']}")
    _make_room(acme.hub.database)
    newer = trust(
        acme, provider, claims={"sub": [CLAIMS["sub"]]}
    )  # in PostgreSQL it stands before the oldest
    token = session(acme, provider)
    acme.hub.as_admin("DELETE", f"{place}/{newer['id']}")
    assert openings(acme, token).status == 201
    acme.hub.as_admin("DELETE", f"{place}/{oldest['id']}")
    assert openings(acme, token).ref == "credential-unknown"


def _make_room(database: str | None) -> None:
    """PostgreSQL puts new rows where removed ones were, once these are cleared away."""

    async def vacuum(database: str) -> None:
        connection = await asyncpg.connect(database)
        try:
            await connection.execute("VACUUM trust_rule")
        finally:
            await connection.close()

    if database is not None:
        asyncio.run(vacuum(database))


def test_only_admins_see_and_change_whom_a_project_trusts(acme: Acme, provider: Provider) -> None:
    rule = trust(acme, provider)
    place = f"/api/v1/organizations/{acme.organization}/trust"
    stranger = Acme(acme.hub).member
    for token, status in ((acme.member, 403), (stranger, 404), (None, 404)):
        for method, path in (("GET", place), ("POST", place), ("DELETE", f"{place}/{rule['id']}")):
            assert acme.hub.request(method, path, token=token).status == status
    elsewhere = Acme(acme.hub)
    admin = acme.hub.make_member(elsewhere.organization, "another-admin", "admin")
    path = f"/api/v1/organizations/{elsewhere.organization}/trust/{rule['id']}"
    assert acme.hub.request("DELETE", path, token=admin).status == 404


def test_trust_may_wait_for_its_project(acme: Acme, provider: Provider) -> None:
    assert trust(acme, provider, project="new")["pending"]
    token = session(acme, provider, project="New")
    new = f"/api/v1/projects/{acme.organization}/new"
    creation = f"/api/v1/organizations/{acme.organization}/projects"
    assert (
        acme.hub.request("POST", f"{new}/publications", token=token, json={"version": "1.0.0"}).status == 404
    )
    other = acme.hub.request("POST", creation, token=token, json={"name": "newer", "visibility": "private"})
    assert other.status == 404
    made = acme.hub.request("POST", creation, token=token, json={"name": "new", "visibility": "private"})
    assert made.status == 201
    publisher = as_session(acme, token)
    publisher.project = "new"
    assert publisher.publish("1.0.0", chain("new"))["created"]
    again = acme.hub.request("POST", creation, token=token, json={"name": "new", "visibility": "private"})
    assert again.status == 404
    (rule,) = acme.hub.as_admin("GET", f"/api/v1/organizations/{acme.organization}/trust")
    assert (rule["project"], rule["pending"]) == ("new", False)


def test_trust_that_waits_means_the_project_that_somebody_else_makes(acme: Acme, provider: Provider) -> None:
    trust(acme, provider, project="new")
    before = session(acme, provider, project="new")
    acme.add_project("New")
    for token in (before, session(acme, provider, project="new")):
        answer = acme.hub.request(
            "POST",
            f"/api/v1/projects/{acme.organization}/new/publications",
            token=token,
            json={"version": "1.0.0"},
        )
        assert answer.status == 201


def test_whoever_makes_a_project_of_the_same_name_later_inherits_no_trust(
    acme: Acme, provider: Provider
) -> None:
    trust(acme, provider)
    token = session(acme, provider)
    acme.hub.as_admin("DELETE", acme.base)
    acme.add_project("web")
    assert openings(acme, token).ref == "credential-unknown"
    assert exchange(acme, provider.mint()).ref == "identity-invalid"
    assert acme.hub.as_admin("GET", f"/api/v1/organizations/{acme.organization}/trust") == []


def test_a_rule_that_is_too_wide_or_can_t_be_read_is_refused(acme: Acme, provider: Provider) -> None:
    place = f"/api/v1/organizations/{acme.organization}/trust"
    good = {"project": "web", "issuer": provider.issuer, "claims": {"repository_id": ["1"]}}
    for change, ref in (
        ({"claims": {"ref": ["refs/heads/main"]}}, "bad-trust"),
        ({"claims": {}}, "bad-trust"),
        ({"claims": {"repository_id": "1"}}, "bad-request"),
        ({"issuer": "http://ci.example.org"}, "bad-trust"),
        ({"issuer": None}, "bad-trust"),
        ({"audience": ""}, "bad-trust"),
        ({"project": "a b"}, "bad-name"),
        ({"repository": "acme/web"}, "bad-trust"),
        ({"preset": "github"}, "bad-trust"),
    ):
        answer = acme.hub.request("POST", place, token=acme.hub.admin, json=good | change)
        assert (answer.status, answer.ref) == (400, ref), change
    assert acme.hub.as_admin("GET", place) == []


def test_a_key_that_was_rotated_counts_at_once(acme: Acme, provider: Provider) -> None:
    trust(acme, provider)
    session(acme, provider)
    provider.tell("rotate", algorithm="ES256", kid="second")
    session(acme, provider)


def test_an_issuer_that_is_silent_stops_nobody_else(acme: Acme, provider: Provider) -> None:
    trust(acme, provider)
    identity = provider.mint()
    provider.tell("silence")
    answers: list[Answer] = []
    waiting = threading.Thread(target=lambda: answers.append(exchange(acme, identity)))
    waiting.start()
    assert acme.publish("0.1.0", chain("meanwhile"))["created"]
    waiting.join()
    assert (answers[0].status, answers[0].ref) == (503, "issuer-unreachable")
    assert provider.issuer not in answers[0].body.decode()


def test_an_issuer_outside_of_what_the_hub_may_reach_is_never_connected_to(
    acme: Acme, provider: Provider
) -> None:
    issuer = provider.issuer.replace("localhost", "127.0.0.1")
    trust(acme, provider, issuer=issuer)
    answer = exchange(acme, provider.mint(iss=issuer))
    assert (answer.status, answer.ref) == (503, "issuer-unreachable")
    assert any("operator" in line["reason"] for line in acme.hub.log_lines("issuer-not-read"))


def test_no_part_of_an_identity_or_a_session_is_logged(acme: Acme, provider: Provider) -> None:
    trust(acme, provider)
    identity = provider.mint()
    token = exchange(acme, identity).json()["token"]
    exchange(acme, identity)
    openings(acme, token)
    written = "\n".join(acme.hub.lines)
    for secret in (identity.split(".")[2], identity.split(".")[1], token):
        assert secret not in written


def json_part(identity: str) -> dict[str, Any]:
    part = identity.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found
