"""`piste publish` in a CI: without any stored token, with real Nix, to a hub that trusts a real issuer."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from piste.wire.organizations import NewUpstream
from tests.hub.process import Hub
from tests.identities.openid import Certificate, Provider
from tests.running.command import Finished, Person, check
from tests.running.nix import build, write_flake
from tests.running.tenants import Tenant, client_of, make_tenant

_COUNT = iter(range(1_000_000))
DEFINITIONS = 'web = run "web" "echo one > $out";'
OUTPUTS = "nixosConfigurations.web.config.system.build.toplevel = web;"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, certificate: Certificate) -> Iterator[Hub]:
    made = Hub(tmp_path_factory.mktemp("hub"), None, ("--allow-egress", "localhost"))
    try:
        yield made.start()
    finally:
        made.close()


@pytest.fixture
def tenant(hub: Hub) -> Tenant:
    return make_tenant(hub, f"acme{next(_COUNT)}", "web")


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runner")


@pytest.fixture
def runner(tenant: Tenant, machine: Path) -> Person:
    """A machine of the CI, which has no token at all."""
    return Person(machine, tenant.hub.url)


@pytest.fixture
def admin(tenant: Tenant, tmp_path: Path) -> Person:
    return Person(tmp_path / "admin", tenant.hub.url, tenant.hub.admin)


@pytest.fixture
def flake(runner: Person, tmp_path: Path) -> Path:
    return write_flake(runner, tmp_path / "flake", DEFINITIONS, OUTPUTS)


@dataclass
class Place:
    """Where a job asks for its identity, as GitHub and Forgejo have it."""

    url: str
    asked: list[tuple[str, str]]  # audience, and what the job showed


@contextmanager
def id_token_service(provider: Provider, **claims: Any) -> Iterator[Place]:
    asked: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            audience = parse_qs(urlsplit(self.path).query)["audience"][0]
            asked.append((audience, self.headers["Authorization"]))
            body = json.dumps({"count": 1, "value": provider.mint(**{"aud": audience, **claims})}).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Place(f"http://127.0.0.1:{server.server_address[1]}/token?api-version=2.0", asked)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def in_job(runner: Person, **variables: str) -> Person:
    return replace(runner, extra={**runner.extra, **variables})


def publish(runner: Person, tenant: Tenant, flake: Path, *options: str, project: str = "web") -> Finished:
    name = f"{tenant.organization}/{project}"
    return runner.piste("publish", str(flake), "--name", name, "--json", *(options or ("--rolling",)))


def trust(admin: Person, tenant: Tenant, provider: Provider, *options: str, project: str = "web") -> Any:
    name = f"{tenant.organization}/{project}"
    chosen = options or ("--claim", "repository_id=123", "--claim", "ref=refs/heads/main")
    return admin.succeed("trust", "add", name, "--issuer", provider.issuer, *chosen, "--json").json


def test_a_job_of_github_publishes_without_a_token(
    runner: Person, admin: Person, tenant: Tenant, flake: Path, provider: Provider
) -> None:
    trust(admin, tenant, provider)
    with id_token_service(provider) as place:
        job = in_job(
            runner, ACTIONS_ID_TOKEN_REQUEST_URL=place.url, ACTIONS_ID_TOKEN_REQUEST_TOKEN="for-this-job"
        )
        result = json.loads(check(publish(job, tenant, flake)))
        assert result["flake_version"].startswith("0.1.1+rev-")
        assert place.asked == [("127.0.0.1", "bearer for-this-job")]
        # Each publication exchanges an identity of its own; what is there is not uploaded again.
        again = json.loads(check(publish(job, tenant, flake, "--version", "1.0.0")))
        assert (again["paths_uploaded"], again["paths_present"]) == (0, 1)
    with tenant.client() as client:
        assert len(client.releases(tenant.organization, "web")) == 2


def test_a_job_of_another_ci_hands_its_identity_over(
    runner: Person, admin: Person, tenant: Tenant, flake: Path, provider: Provider, tmp_path: Path
) -> None:
    trust(admin, tenant, provider)
    job = in_job(runner, PISTE_ID_TOKEN=provider.mint())
    check(publish(job, tenant, flake, "--version", "1.0.0"))
    refused = publish(job, tenant, flake, "--version", "1.1.0")
    assert (refused.code, refused.problem["ref"]) == (6, "identity-used")
    file = tmp_path / "identity"
    file.write_text(provider.mint() + "\n")
    check(publish(in_job(runner, PISTE_ID_TOKEN_FILE=str(file)), tenant, flake, "--version", "1.1.0"))


def test_a_job_pushes_to_the_cache_with_new_identities_as_the_old_ones_end(
    runner: Person, admin: Person, tenant: Tenant, provider: Provider
) -> None:
    trust(admin, tenant, provider)
    path = build(runner, DEFINITIONS, "web")
    common = ("cache", "push", path, "--name", tenant.name, "--json")
    with id_token_service(provider) as place:
        job = in_job(
            runner, ACTIONS_ID_TOKEN_REQUEST_URL=place.url, ACTIONS_ID_TOKEN_REQUEST_TOKEN="for-this-job"
        )
        pushed = job.succeed(*common).json
        assert (pushed["paths_uploaded"], pushed["paths_present"]) == (1, 0)
    # An identity that was handed over is not used up by a push.
    handed = in_job(runner, PISTE_ID_TOKEN=provider.mint())
    for _ in range(2):
        assert handed.succeed(*common).json["paths_present"] == 1
    stranger = in_job(runner, PISTE_ID_TOKEN=provider.mint(repository_id="124"))
    assert stranger.piste(*common).problem["ref"] == "identity-not-trusted"


def test_an_issuer_without_numbers_is_asked_again_when_it_says_the_same_twice(
    runner: Person, admin: Person, tenant: Tenant, flake: Path, provider: Provider
) -> None:
    trust(admin, tenant, provider)
    used = provider.mint(jti="same")
    job = in_job(runner, PISTE_ID_TOKEN=used)
    check(publish(job, tenant, flake, "--version", "1.0.0"))
    provider.claims["jti"] = "same"
    with id_token_service(provider) as place:
        job = in_job(runner, ACTIONS_ID_TOKEN_REQUEST_URL=place.url, ACTIONS_ID_TOKEN_REQUEST_TOKEN="x")
        refused = publish(job, tenant, flake, "--version", "1.1.0")
        assert refused.problem["ref"] == "identity-used"
        assert len(place.asked) == 2


def test_the_first_run_makes_the_project_that_trust_waits_for(
    runner: Person, admin: Person, tenant: Tenant, flake: Path, provider: Provider
) -> None:
    assert trust(admin, tenant, provider, project="new")["pending"] is True
    job = in_job(runner, PISTE_ID_TOKEN=provider.mint())
    check(publish(job, tenant, flake, "--version", "1.0.0", project="new"))
    with tenant.client() as client:
        assert client.project(tenant.organization, "new").visibility == "private"


def test_several_machines_of_a_job_fill_one_release(
    runner: Person, admin: Person, tenant: Tenant, flake: Path, provider: Provider
) -> None:
    trust(admin, tenant, provider)
    first = in_job(runner, PISTE_ID_TOKEN=provider.mint())
    check(publish(first, tenant, flake, "--rolling", "--stage", "run-7"))
    last = in_job(runner, PISTE_ID_TOKEN=provider.mint())
    assert json.loads(check(publish(last, tenant, flake, "--rolling", "--finish", "run-7")))["release_id"]


def test_a_session_is_told_the_upstreams_that_it_may_pin_to(
    runner: Person, admin: Person, tenant: Tenant, flake: Path, provider: Provider
) -> None:
    """It may not list the organization's upstreams, so its publication says them."""
    with client_of(tenant.hub, tenant.hub.admin) as client:
        key = client.organization(tenant.organization).public_keys[0]
        client.add_upstream(tenant.organization, NewUpstream("http://127.0.0.1:1", [key]))
    trust(admin, tenant, provider)
    check(publish(in_job(runner, PISTE_ID_TOKEN=provider.mint()), tenant, flake, "--version", "1.0.0"))


def test_a_run_that_no_rule_trusts_is_refused_with_what_it_said(
    runner: Person, admin: Person, tenant: Tenant, flake: Path, provider: Provider
) -> None:
    trust(admin, tenant, provider)
    job = in_job(runner, PISTE_ID_TOKEN=provider.mint(ref="refs/pull/7/merge"))
    refused = publish(job, tenant, flake)
    assert (refused.code, refused.problem["ref"]) == (6, "identity-not-trusted")
    assert refused.problem["context"]["issuer"] == provider.issuer


def test_another_audience_counts_where_a_rule_names_it(
    runner: Person, admin: Person, tenant: Tenant, flake: Path, provider: Provider
) -> None:
    trust(admin, tenant, provider, "--audience", "piste", "--claim", "repository_id=123")
    with id_token_service(provider) as place:
        job = in_job(runner, ACTIONS_ID_TOKEN_REQUEST_URL=place.url, ACTIONS_ID_TOKEN_REQUEST_TOKEN="x")
        assert publish(job, tenant, flake).problem["ref"] == "identity-not-trusted"
        check(publish(in_job(job, PISTE_ID_TOKEN_AUDIENCE="piste"), tenant, flake))


def test_a_token_that_was_given_comes_before_the_identity(
    runner: Person, tenant: Tenant, flake: Path, provider: Provider
) -> None:
    job = in_job(replace(runner, token=tenant.token), PISTE_ID_TOKEN="not.even.one")
    check(publish(job, tenant, flake, "--version", "1.0.0"))


@pytest.mark.parametrize(
    ("variables", "code", "ref"),
    [
        ({}, 6, "credential-missing"),
        ({"PISTE_ID_TOKEN": "a b"}, 2, "token-file"),
        ({"PISTE_ID_TOKEN_FILE": "/nowhere"}, 2, "token-file"),
        ({"PISTE_ID_TOKEN": "a.b.c"}, 6, "identity-invalid"),
        ({"ACTIONS_ID_TOKEN_REQUEST_URL": "http://127.0.0.1:9/x"}, 6, "credential-missing"),
        (
            {"ACTIONS_ID_TOKEN_REQUEST_URL": "http://127.0.0.1:9/x", "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "x"},
            4,
            "identity-unavailable",
        ),
        (
            {"ACTIONS_ID_TOKEN_REQUEST_URL": "http://ci.example.org/", "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "x"},
            2,
            "insecure-hub",
        ),
    ],
)
def test_an_identity_that_can_t_be_had_is_an_error_with_words(
    runner: Person, tenant: Tenant, flake: Path, variables: dict[str, str], code: int, ref: str
) -> None:
    refused = publish(in_job(runner, **variables), tenant, flake)
    assert (refused.code, refused.problem["ref"]) == (code, ref), refused.stderr


def test_trust_is_added_listed_and_removed_by_command(
    admin: Person, tenant: Tenant, provider: Provider
) -> None:
    preset = (
        "--preset",
        "github",
        "--repository",
        "acme/web",
        "--repository-id",
        "123",
        "--environment",
        "prod",
    )
    added = admin.succeed("trust", "add", tenant.name, *preset, "--json").json
    assert added["claims"]["repository_id"] == ["123"] and added["claims"]["environment"] == ["prod"]
    trust(admin, tenant, provider, project="other")
    assert len(admin.succeed("trust", "list", tenant.organization, "--json").json) == 2
    assert "repository_id=123" in admin.succeed("trust", "list", tenant.name).stdout
    assert admin.piste("trust", "remove", f"{tenant.organization}/other", added["id"]).code == 2
    admin.succeed("trust", "remove", tenant.name, added["id"])
    assert admin.succeed("trust", "list", tenant.name, "--json").json == []
    wide = admin.piste("trust", "add", tenant.name, "--issuer", provider.issuer, "--claim", "ref=*", "--json")
    assert (wide.code, wide.problem["ref"]) == (2, "bad-trust")
    unread = admin.piste("trust", "add", tenant.name, "--issuer", provider.issuer, "--claim", "x", "--json")
    assert unread.code == 2
