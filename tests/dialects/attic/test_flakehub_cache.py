"""Rows 18 and 19: a project's cache as magic-nix-cache fills it, exchange by exchange, on both engines."""

import base64
import os
import uuid

import pytest

from piste.lib.zstd import zstd
from piste.nix.narinfo import parse_narinfo
from piste.nix.signature import PublicKey
from tests.dialects.attic.exchanges import Client, ask_project, cache_of
from tests.hub.publishing import Acme, chain
from tests.running.closures import member


@pytest.fixture
def client(acme: Acme) -> Client:
    name = f"{acme.organization}/{acme.project}"
    return Client(acme.hub, cache_of(acme.hub, acme.member, name), acme.member)


def test_row_18_a_project_is_told_by_the_ids_that_name_its_cache(acme: Acme) -> None:
    reply = ask_project(acme.hub, acme.member, f"{acme.organization}/web")
    assert reply.status == 200
    ids = reply.json()
    assert set(ids) == {"organization_uuid_v7", "project_uuid_v7"}
    assert all(uuid.UUID(each).version == 7 for each in ids.values())
    # Names differ in more than case, also here.
    assert ask_project(acme.hub, acme.member, f"{acme.organization.upper()}/WEB").json() == ids


def test_row_18_without_a_name_it_is_the_one_project_that_the_credential_can_push_to(acme: Acme) -> None:
    named = ask_project(acme.hub, acme.member, f"{acme.organization}/web").json()
    assert ask_project(acme.hub, acme.member).json() == named
    acme.add_project("other")
    reply = ask_project(acme.hub, acme.member)
    assert (reply.status, reply.json()["error"]) == (409, "ProjectAmbiguous")
    assert "--flakehub-flake-name" in reply.json()["message"]


def test_row_18_a_project_that_one_may_not_see_is_missing(acme: Acme) -> None:
    stranger = Acme(acme.hub)
    hidden = ask_project(acme.hub, stranger.member, f"{acme.organization}/web")
    missing = ask_project(acme.hub, stranger.member, f"{acme.organization}/none")
    assert (hidden.status, hidden.json()) == (missing.status, missing.json())
    assert hidden.json()["code"] == 404
    assert ask_project(acme.hub, None).status == 401


def test_row_19_the_configuration_tells_where_to_read_and_which_key_signs(client: Client, acme: Acme) -> None:
    reply = client.config()
    assert reply.status == 200
    config = reply.json()
    assert config["substituter_endpoint"] == f"{acme.hub.url}{acme.cache}"
    assert config["api_endpoint"] == f"{acme.hub.url}/"
    assert config["is_public"] is False
    assert config["store_dir"] == "/nix/store"
    assert PublicKey.parse(config["public_key"]).name.startswith(acme.organization.lower())
    assert isinstance(config["priority"], int)
    assert config["retention_period"] == "Global"
    assert "keypair" not in config


def test_row_19_a_closure_is_pushed_and_read(client: Client, acme: Acme) -> None:
    closure = chain("pushed", 3, os.urandom(1000))
    assert set(client.push(closure)) == {each.path.hash_part for each in closure}
    assert client.push(closure) == []
    for path in closure:
        narinfo = parse_narinfo(acme.narinfo(path).body.decode())
        assert narinfo.info.references == path.references
        key = PublicKey.parse(client.config().json()["public_key"])
        assert key.verify(narinfo.info.fingerprint(), narinfo.info.signatures[0])
        assert zstd.decompress(acme.ask("GET", f"{acme.cache}/{narinfo.url}").body) == path.nar


def test_row_19_the_answers_have_the_shape_that_clients_decode(client: Client) -> None:
    path = member("app", os.urandom(8), os.urandom(1000))
    assert client.missing([path.path.hash_part]).json() == {"missing_paths": [path.path.hash_part]}
    first, second = client.upload(path).json(), client.upload(path).json()
    assert (first["kind"], second["kind"]) == ("Uploaded", "Deduplicated")
    assert isinstance(first["file_size"], int)
    assert isinstance(second["frac_deduplicated"], float)
    refused = client.upload(path, nar=b"no NAR")
    assert set(refused.json()) == {"code", "error", "message"}
    assert refused.json()["code"] == refused.status == 422


def test_row_19_long_metadata_stands_before_the_nar_in_the_body(client: Client, acme: Acme) -> None:
    below = [member(f"reference-with-a-long-name-{number}", number) for number in range(100)]
    path = member("app", os.urandom(8), b"x" * 300_000, [each.path for each in below])
    client.push([*below, path])
    assert parse_narinfo(acme.narinfo(path).body.decode()).info.references == path.references
    short = member("short", os.urandom(8))
    assert client.upload(short, force_preamble=True).status == 200
    assert acme.narinfo(short).status == 200


def test_paths_may_arrive_before_what_they_refer_to(client: Client, acme: Acme) -> None:
    below, above = chain("order", 2, os.urandom(100))
    assert client.upload(above).status == 200
    assert client.missing([below.path.hash_part, above.path.hash_part]).json() == {
        "missing_paths": [below.path.hash_part]
    }
    assert client.upload(below).status == 200
    assert acme.narinfo(below).status == acme.narinfo(above).status == 200


def test_a_recorded_output_becomes_available_once_its_paths_have_come(client: Client, acme: Acme) -> None:
    closure = chain("recorded", 3, os.urandom(100))
    filling = acme.open("1.0.0")
    filling.declare(closure, {"packages.x86_64-linux.app": closure[-1]}, required=False)
    filling.source()
    assert filling.finish().status == 200
    asked = {"requirement": "1", "attribute": "packages.x86_64-linux.app"}
    assert acme.resolve(**asked).ref == "output-not-available"
    client.upload(closure[2])
    client.upload(closure[0])
    assert acme.resolve(**asked).ref == "output-not-available"
    client.upload(closure[1])
    resolved = acme.resolve(**asked)
    assert resolved.json()["store_path"] == str(closure[-1].path)


def test_gotcha_13_no_request_needs_a_user_agent(client: Client) -> None:
    # Only uploads name one; neither of these does.
    assert client.config().status == 200
    assert client.missing([]).json() == {"missing_paths": []}


def test_gotcha_16_the_name_of_a_cache_is_no_url_scheme(client: Client) -> None:
    organization, _, project = client.cache.partition(":")
    assert organization[0].isdigit()
    assert project[0].isdigit()


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "Basic"])
def test_gotcha_17_one_token_works_in_each_scheme(client: Client, acme: Acme, scheme: str) -> None:
    word = acme.member if scheme != "Basic" else base64.b64encode(f"flakehub:{acme.member}".encode()).decode()
    for target in ("/project", f"/_api/v1/cache-config/{client.cache}"):
        answer = acme.hub.request("GET", target, headers={"Authorization": f"{scheme} {word}"})
        assert answer.status == 200, answer.body
