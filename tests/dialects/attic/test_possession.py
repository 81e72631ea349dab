"""Knowing a hash is no proof of having what it is of; what is uploaded is what was said, or it isn't kept."""

import os
from typing import Any

import pytest

from tests.dialects.attic.exchanges import Client
from tests.hub.publishing import Acme, stored_files
from tests.running.closures import Member, member, new_path


def client_of(acme: Acme) -> Client:
    return Client(acme.hub, f"{acme.organization}+{acme.project}", acme.member)


@pytest.fixture
def client(acme: Acme) -> Client:
    return client_of(acme)


def test_who_knows_a_hash_gets_nothing_by_it(client: Client, acme: Acme) -> None:
    path = member("secret", os.urandom(8), os.urandom(2000))
    assert client.upload(path).status == 200
    stranger = Acme(acme.hub)
    other = client_of(stranger)
    # What others have is missing to the stranger, and so it stays without the bytes.
    assert other.missing([path.path.hash_part]).json()["missing_paths"] == [path.path.hash_part]
    for claim in (b"", path.nar[:-8], member("secret", 1, os.urandom(2000)).nar):
        assert other.upload(path, nar=claim).status == 422
    assert stranger.narinfo(path).status == 404
    # With them it is as for anybody: nothing tells that the hub had them before.
    assert other.upload(path).json()["kind"] == "Uploaded"
    assert stranger.narinfo(path).status == 200


def test_missing_paths_speak_of_the_project_alone(client: Client, acme: Acme) -> None:
    path = member("app", os.urandom(8))
    client.upload(path)
    acme.add_project("other")
    other = Client(acme.hub, f"{acme.organization}+other", acme.member)
    assert other.missing([path.path.hash_part]).json()["missing_paths"] == [path.path.hash_part]


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ({"nar_size": 1}, "NarMismatch"),
        ({"nar_size": 10**9}, "NarMismatch"),
        ({"nar_size": 0}, "BadPathInfo"),
        ({"nar_hash": "sha256:" + "0" * 64}, "NarMismatch"),
        ({"nar_hash": "md5:" + "0" * 32}, "BadPathInfo"),
        ({"store_path_hash": "0" * 32}, "BadPathInfo"),
        ({"store_path": "/nix/store/short"}, "BadPathInfo"),
        ({"store_path": "/gnu/store/" + "0" * 32 + "-app"}, "BadPathInfo"),
        ({"references": ["../../etc/passwd"]}, "BadPathInfo"),
        ({"sigs": ["nothing"]}, "BadPathInfo"),
        ({"ca": "a b"}, "BadPathInfo"),
        ({"nar_size": "1"}, "BadRequest"),
        ({"references": None}, "BadRequest"),
    ],
)
def test_what_is_said_has_to_fit(client: Client, acme: Acme, said: dict[str, Any], kind: str) -> None:
    path = member("app", os.urandom(8), os.urandom(100))
    assert client.upload(path, said=said).json()["error"] == kind
    assert acme.narinfo(path).status == 404
    assert stored_files(acme.hub, "spool") == []


def test_a_reference_that_is_not_named_is_refused(client: Client) -> None:
    below = member("below", os.urandom(8))
    client.upload(below)
    text = f"{below.path}\n".encode()
    hiding = member("hiding", os.urandom(8), text)
    assert client.upload(hiding).json()["error"] == "UndeclaredReference"


def test_other_content_of_a_path_is_a_conflict(client: Client) -> None:
    first = member("app", "same", os.urandom(100))
    first_again = Member(first.path, member("app", "x", os.urandom(100)).nar, ())
    assert client.upload(first).status == 200
    reply = client.upload(first_again)
    assert (reply.status, reply.json()["error"]) == (409, "PathConflict")


def test_a_circle_of_references_is_no_closure(client: Client, acme: Acme) -> None:
    first, second = new_path("first", "circle"), new_path("second", "circle")
    circle = [
        Member(first, member("first", 1, os.urandom(8), [second]).nar, (second,)),
        Member(second, member("second", 1, os.urandom(8), [first]).nar, (first,)),
    ]
    filling = acme.open("1.0.0")
    filling.declare([], {"packages.x86_64-linux.round": circle[1]}, required=False)
    filling.source()
    assert filling.finish().status == 200
    client.push(circle)
    assert acme.resolve("1", "packages.x86_64-linux.round").ref == "output-not-available"
    assert acme.ask("GET", f"{acme.base}/releases/1").status == 200


@pytest.mark.parametrize("size", ["-1", "0", "x", "99999999999999999999999", "1e3"])
def test_a_preamble_of_a_mad_size_is_refused(acme: Acme, size: str) -> None:
    sent = {"X-Attic-Nar-Info-Preamble-Size": size}
    answer = acme.ask("PUT", "/_api/v1/upload-path", body=b"{}", headers=sent)
    assert (answer.status, answer.json()["error"]) == (400, "BadRequest")


def test_a_body_that_ends_within_its_preamble_is_refused(acme: Acme) -> None:
    sent = {"X-Attic-Nar-Info-Preamble-Size": "100"}
    answer = acme.ask("PUT", "/_api/v1/upload-path", body=b"{}", headers=sent)
    assert (answer.status, answer.json()["error"]) == (400, "BadRequest")


def test_a_device_reads_and_does_not_push(acme: Acme, client: Client) -> None:
    device = acme.hub.make_token(acme.organization, kind="device")
    reader = Client(acme.hub, client.cache, device)
    assert reader.config().status == 200
    assert reader.missing([]).status == reader.upload(member("app", 1)).status == 403
