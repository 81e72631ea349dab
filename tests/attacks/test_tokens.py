"""What a host's tokens can not do: a resolve-only token resolves, and the closure token reads one closure."""

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from piste.nix.hashes import sha256_of
from piste.wire.resolution import Resolution
from tests.hub.process import Answer, Hub
from tests.running.closures import ATTRIBUTE, Member, member, new_path, publish
from tests.running.command import Person
from tests.running.nix import configured, copy_from, has, substitute
from tests.running.tenants import Tenant, client_of

NOTES = "packages.x86_64-linux.notes"
LOG = "log/00000000000000000000000000000000-web.drv"


@dataclass(frozen=True)
class Published:
    """Two versions with two outputs each; the outputs share a path."""

    shared: Member
    old: Member
    new: Member
    notes: Member


@pytest.fixture(scope="module")
def web(acme: Tenant) -> Published:
    """Everything that a host's token is not for stands around what it is for."""
    shared = member("shared", "both", b"for both")
    old, new = (member("web", text, text.encode(), [shared.path]) for text in ("old", "new"))
    notes = member("notes", "notes", b"for the people who write it", [shared.path])
    for version, top in (("1.0.0", old), ("2.0.0", new)):
        with acme.client() as client:
            members = [shared, notes, top]
            outputs = {ATTRIBUTE: top, NOTES: notes}
            publish(client, acme.organization, acme.project, version, members, outputs=outputs)
    put = acme.hub.request("PUT", f"{acme.cache_path}/{LOG}", token=acme.token, body=b"compiling secret.c\n")
    assert put.status < 300
    return Published(shared, old, new, notes)


@pytest.fixture(scope="module")
def host(acme: Tenant, web: Published) -> str:
    """A resolve-only token for versions 1 of the system."""
    return acme.resolve_only("1", ATTRIBUTE)


def _resolve(hub: Hub, acme: Tenant, token: str, requirement: str, attribute: str = ATTRIBUTE) -> Answer:
    segments = "/".join(quote(part, safe="") for part in (requirement, attribute))
    return hub.request("GET", f"{acme.api}/resolve/{segments}?token=true", token=token)


def _resolution(acme: Tenant, token: str, requirement: str) -> Resolution:
    with client_of(acme.hub, token) as client:
        return client.resolve(acme.organization, acme.project, requirement, ATTRIBUTE, token=True)


def _addresses(acme: Tenant, web: Published) -> list[str]:
    """Everything that can be read of the project and its organization, but for caches and resolution."""
    organization, project = f"/api/v1/organizations/{acme.organization}", acme.api
    release = acme.hub.request("GET", f"{project}/releases/1", token=acme.token).json()["release"]["id"]
    return [
        organization,
        f"{organization}/members",
        f"{organization}/tokens",
        f"{organization}/upstreams",
        project,
        f"{project}/releases",
        f"{project}/releases/1",
        f"{project}/releases/=1.0.0",
        f"{project}/releases/=1.0.0/source",
        f"{project}/versions/1",
        f"{project}/versions/*",
        f"/f/{acme.name}/1",
        f"/f/{acme.name}/1.tar.gz",
        f"/f/{acme.name}/=1.0.0",
        f"/f/pinned/{acme.name}/1.0.0/{release}/source.tar.gz",
    ]


def _cache_addresses(acme: Tenant, each: Member) -> list[str]:
    """Everything that a cache has of a path."""
    tails = [f"{each.path.hash_part}.narinfo", f"{each.path.hash_part}.ls"]
    tails.append(f"nar/{each.nar_hash.base32}.nar.zst")
    return [f"{place}/{tail}" for place in (acme.cache_path, "") for tail in tails]


def _assert_closed(answer: Answer, where: str) -> None:
    assert answer.status in (401, 403, 404), f"{where}: {answer.status} {answer.body[:200]!r}"


def test_all_of_these_addresses_are_real(acme: Tenant, web: Published) -> None:
    for address in _addresses(acme, web):
        assert acme.hub.request("GET", address, token=acme.hub.admin).status in (200, 307), address
    for each in (web.shared, web.old, web.new, web.notes):
        for address in _cache_addresses(acme, each):
            assert acme.hub.request("GET", address, token=acme.token).status == 200, address
    assert acme.hub.request("GET", f"{acme.cache_path}/{LOG}", token=acme.token).status == 200


def test_a_resolve_only_token_reads_no_source_no_listing_and_no_path(
    acme: Tenant, web: Published, host: str
) -> None:
    manifest = _resolution(acme, host, "1").manifest.removeprefix("sha256:")
    closed = [*_addresses(acme, web), f"{acme.cache_path}/{LOG}", f"{acme.cache_path}/manifest/{manifest}"]
    closed += [address for each in (web.old, web.shared, web.new) for address in _cache_addresses(acme, each)]
    for address in closed:
        for method in ("GET", "HEAD"):
            _assert_closed(acme.hub.request(method, address, token=host), f"{method} {address}")


def test_lists_show_nothing_to_a_resolve_only_token_and_to_a_closure_token(
    acme: Tenant, web: Published, host: str
) -> None:
    for token in (host, _resolution(acme, host, "1").token):
        for address in ("/api/v1/organizations", "/api/v1/projects", "/api/v1/projects?query=vault"):
            answer = acme.hub.request("GET", address, token=token)
            assert answer.status != 200 or answer.json() == [], f"{address}: {answer.body!r}"


def test_a_resolve_only_token_changes_nothing(acme: Tenant, web: Published, host: str) -> None:
    for token in (host, str(_resolution(acme, host, "1").token)):
        writes: list[tuple[str, str, Any]] = [
            ("POST", "/api/v1/organizations", {"name": "mine"}),
            (
                "POST",
                f"/api/v1/organizations/{acme.organization}/tokens",
                {"kind": "user", "description": "x"},
            ),
            ("POST", f"/api/v1/organizations/{acme.organization}/projects", {"name": "x"}),
            ("POST", f"{acme.api}/publications", {"version": "9.0.0"}),
            ("PATCH", acme.api, {"visibility": "public"}),
            ("DELETE", acme.api, None),
            ("PUT", f"{acme.api}/releases/1.0.0/yank", {}),
            ("PUT", f"{acme.cache_path}/nar/{'0' * 52}.nar", None),
            ("PUT", f"{acme.cache_path}/{web.old.path.hash_part}.narinfo", None),
        ]
        for method, address, message in writes:
            answer = acme.hub.request(method, address, token=token, json=message)
            _assert_closed(answer, f"{method} {address}")
    assert acme.hub.request("GET", acme.api, token=acme.token).json()["visibility"] == "private"


@pytest.mark.parametrize(
    "requirement", ["2", "=2.0.0", "*", "1.0", ">=1", "=1", "=1.0", "~1", "^1.0.0", "1.0.0"]
)
def test_a_resolve_only_token_reaches_no_other_version_nor_another_question(
    acme: Tenant, host: str, requirement: str
) -> None:
    answer = _resolve(acme.hub, acme, host, requirement)
    assert (answer.status, answer.ref) == (403, "requirement-not-allowed"), answer.body
    assert "`1`" in answer.body.decode()


@pytest.mark.parametrize("requirement", ["1", " 1 ", "=1.0.0", "=v1.0.0"])
def test_a_resolve_only_token_resolves_what_it_is_bound_to(
    acme: Tenant, host: str, web: Published, requirement: str
) -> None:
    answer = _resolve(acme.hub, acme, host, requirement)
    assert answer.status == 200, answer.body
    assert answer.json()["store_path"] == str(web.old.path)


@pytest.mark.parametrize("attribute", [NOTES, "nixosConfigurations.other", "nixosConfigurations"])
def test_a_resolve_only_token_reaches_no_other_output_whether_there_is_one_or_not(
    acme: Tenant, host: str, attribute: str
) -> None:
    answer = _resolve(acme.hub, acme, host, "1", attribute)
    assert (answer.status, answer.ref) == (403, "forbidden")


def test_a_minimum_version_holds_against_an_exact_older_one(acme: Tenant, web: Published) -> None:
    token = acme.resolve_only("*", ATTRIBUTE, minimum="2.0.0")
    assert _resolve(acme.hub, acme, token, "*").json()["version"] == "2.0.0"
    assert _resolve(acme.hub, acme, token, "=1.0.0").ref == "requirement-not-allowed"


def test_a_resolve_only_token_of_another_project_is_answered_as_if_nothing_were_there(
    acme: Tenant, rival: Tenant, host: str
) -> None:
    token = rival.resolve_only("1", ATTRIBUTE)
    real, none = (
        rival.hub.request("GET", f"/api/v1/projects/{name}/resolve/1/{ATTRIBUTE}", token=token)
        for name in (acme.name, "acme/there-is-none")
    )
    assert real.status == none.status == 404
    assert real.ref == none.ref


def test_a_closure_token_reads_its_closure_and_nothing_beside_it(
    acme: Tenant, web: Published, host: str
) -> None:
    found = _resolution(acme, host, "1")
    token = str(found.token)
    digest = found.manifest.removeprefix("sha256:")
    for tail in (digest, f"{digest}/sources", f"{digest}/nars?places=0-1"):
        assert acme.hub.request("GET", f"{acme.cache_path}/manifest/{tail}", token=token).status == 200
    for each in (web.old, web.shared):
        for address in _cache_addresses(acme, each):
            assert acme.hub.request("GET", address, token=token).status == 200, address
    closed = [*_addresses(acme, web), f"{acme.cache_path}/{LOG}"]
    closed += [address for each in (web.new, web.notes) for address in _cache_addresses(acme, each)]
    other = _resolution(acme, acme.token, "2").manifest.removeprefix("sha256:")
    manifest = f"{acme.cache_path}/manifest/{other}"
    closed += [manifest, f"{manifest}/sources", f"{manifest}/nars?places=0"]
    for address in closed:
        for method in ("GET", "HEAD"):
            _assert_closed(acme.hub.request(method, address, token=token), f"{method} {address}")
    _assert_closed(_resolve(acme.hub, acme, token, "1"), "resolve")


def test_what_a_closure_token_may_not_read_is_answered_like_what_is_not_there(
    acme: Tenant, web: Published, host: str
) -> None:
    token = str(_resolution(acme, host, "1").token)
    absent = new_path("absent", "absent")
    for place in (acme.cache_path, ""):
        for real, none in [
            (f"{web.new.path.hash_part}.narinfo", f"{absent.hash_part}.narinfo"),
            (f"{web.new.path.hash_part}.ls", f"{absent.hash_part}.ls"),
            (f"nar/{web.new.nar_hash.base32}.nar.zst", f"nar/{sha256_of(b'x').base32}.nar.zst"),
        ]:
            answers = [acme.hub.request("GET", f"{place}/{tail}", token=token) for tail in (real, none)]
            first, second = ({**each.json()["error"], "request_id": ""} for each in answers)
            assert (answers[0].status, first) == (answers[1].status, second)


def test_todays_token_does_not_read_yesterdays_closure(acme: Tenant, web: Published) -> None:
    token = acme.resolve_only("*", ATTRIBUTE)
    today = str(_resolution(acme, token, "*").token)
    assert (
        acme.hub.request("GET", f"{acme.cache_path}/{web.new.path.hash_part}.narinfo", token=today).status
        == 200
    )
    for address in _cache_addresses(acme, web.old):
        _assert_closed(acme.hub.request("GET", address, token=today), address)


def test_a_closure_token_that_was_changed_anywhere_is_worth_nothing(
    acme: Tenant, web: Published, host: str
) -> None:
    token = str(_resolution(acme, host, "1").token)
    address = f"{acme.cache_path}/{web.old.path.hash_part}.narinfo"
    assert acme.hub.request("GET", address, token=token).status == 200
    start = len("piste_closure_")
    for place in range(start, len(token), 7):
        other = "A" if token[place] != "A" else "B"
        changed = token[:place] + other + token[place + 1 :]
        assert acme.hub.request("GET", address, token=changed).status == 401
    assert acme.hub.request("GET", address, token=token[:-1]).status == 401


def test_unmodified_nix_with_a_closure_token_gets_that_closure_alone(
    acme: Tenant, web: Published, host: str, tmp_path: Path
) -> None:
    token = str(_resolution(acme, host, "1").token)
    machine = configured(Person(tmp_path), acme.hub.url, token, [acme.key])
    for place in (acme.cache_url, acme.hub.url):
        for get in (copy_from, substitute):
            for each in (web.notes, web.new):
                assert get(machine, place, str(each.path)).code != 0
                assert not has(machine, str(each.path))
    log = machine.run("nix", "log", "--store", acme.cache_url, f"/nix/store/{LOG.removeprefix('log/')}")
    assert log.code != 0
    assert "secret.c" not in log.stdout
    done = copy_from(machine, acme.cache_url, str(web.old.path))
    assert done.code == 0, done.stderr
    assert has(machine, str(web.old.path))


def test_unmodified_nix_with_a_resolve_only_token_gets_nothing(
    acme: Tenant, web: Published, host: str, tmp_path: Path
) -> None:
    machine = configured(Person(tmp_path), acme.hub.url, host, [acme.key])
    for place in (acme.cache_url, acme.hub.url):
        for get in (copy_from, substitute):
            assert get(machine, place, str(web.old.path)).code != 0
    flake = machine.run("nix", "flake", "metadata", f"{acme.hub.url}/f/{acme.name}/1.tar.gz")
    assert flake.code != 0
    assert not has(machine, str(web.old.path))


def test_a_token_as_basic_user_name_opens_nothing_and_is_told_to_nobody(
    acme: Tenant, web: Published, host: str
) -> None:
    """Whoever writes `TOKEN:` where `:TOKEN` is meant has it in logs of proxies, which keep user names."""
    identity = ".".join([base64.urlsafe_b64encode(b'{"alg":"RS256","kid":"k"}').decode(), "e30", "c2ln"])
    for token in (acme.token, host, str(_resolution(acme, host, "1").token), identity):
        for text in (f"{token}:", f"{token}:{token}", f"{token}:x"):
            basic = "Basic " + base64.b64encode(text.encode()).decode()
            for address in ("/api/v1/status", acme.api, f"{acme.cache_path}/nix-cache-info"):
                answer = acme.hub.request("GET", address, headers={"Authorization": basic})
                assert (answer.status, answer.ref) == (401, "credential-as-user-name")
                assert "password" in answer.json()["error"]["hint"]
                assert token not in answer.body.decode() + str(answer.headers)
        assert not any(token in line for line in acme.hub.lines)
        log = acme.hub.request("GET", "/api/v1/audit", token=acme.hub.admin)
        assert log.status == 200 and token.encode() not in log.body
