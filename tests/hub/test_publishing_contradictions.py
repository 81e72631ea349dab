"""Declarations that contradict each other, or what is there: nothing of them is ever promised to a host."""

import json

import msgspec
import pytest

from piste.nix.store_path import StorePath
from tests.hub.process import Hub
from tests.hub.publishing import Acme
from tests.running.closures import ATTRIBUTE, Member, file_nar, member, new_path


@pytest.fixture
def acme(shared_hub: Hub) -> Acme:
    return Acme(shared_hub)


@pytest.mark.parametrize("wrong", [0, 1])
def test_a_path_with_a_wrong_size_is_not_verified_by_the_nar_of_another(acme: Acme, wrong: int) -> None:
    nar = file_nar(b"the same")
    both = sorted((Member(new_path(name, (acme, name)), nar, ()) for name in "ab"), key=lambda one: one.path)
    declared = [msgspec.to_builtins(each.declared) for each in both]
    declared[wrong]["nar_size"] += 8
    filling = acme.open()
    output = {"attribute": ATTRIBUTE, "store_path": str(both[wrong].path), "required": True}
    message = {"paths": declared, "outputs": [output]}
    assert acme.ask("POST", f"{filling.place}/declarations", json=message).status == 200
    filling.upload(both[0].frame)
    filling.source()
    answer = filling.finish()
    assert (answer.status, answer.ref) == (409, "output-incomplete")


def test_a_path_that_the_project_has_under_another_name_makes_no_release(acme: Acme) -> None:
    known = member("known", acme)
    acme.publish("1.0.0", [known])
    twisted = Member(StorePath(known.path.hash_part, "twisted"), known.nar, ())
    filling = acme.open("1.0.1")
    filling.declare([twisted], {ATTRIBUTE: twisted})
    filling.upload_missing([twisted])
    filling.source()
    answer = filling.finish()
    assert (answer.status, answer.ref) == (409, "path-conflict")
    assert acme.resolve("=1.0.1").status == 404


def test_references_in_a_circle_make_no_release_even_where_no_output_reaches_them(acme: Acme) -> None:
    names = [new_path(name, (acme, name)) for name in ("one", "two")]
    circle = [Member(names[0], file_nar(b"1"), (names[1],)), Member(names[1], file_nar(b"2"), (names[0],))]
    alone = member("alone", acme)
    filling = acme.open("1.0.2")
    filling.declare([*circle, alone], {ATTRIBUTE: alone})
    filling.upload_missing([*circle, alone])
    filling.source()
    answer = filling.finish()
    assert (answer.status, answer.ref) == (422, "bad-path-info")
    assert acme.resolve("=1.0.2").status == 404


def test_a_declaration_that_arrives_after_its_publication_was_abandoned_is_told_so(acme: Acme) -> None:
    filling, path = acme.open(), member("late", acme)
    body = json.dumps({"paths": [msgspec.to_builtins(path.declared)]}).encode()
    connection = acme.hub.connect()
    connection.putrequest("POST", f"{filling.place}/declarations")
    connection.putheader("Authorization", f"Bearer {acme.member}")
    connection.putheader("Content-Length", str(len(body)))
    connection.putheader("Expect", "100-continue")
    connection.endheaders()
    # The hub asks for the body once it has found the publication.
    assert connection.sock.recv(1000).startswith(b"HTTP/1.1 100 ")
    assert acme.ask("DELETE", filling.place).status == 204
    connection.send(body)
    response = connection.getresponse()
    assert response.status == 409
    assert json.loads(response.read())["error"]["ref"] == "publication-closed"
    connection.close()
