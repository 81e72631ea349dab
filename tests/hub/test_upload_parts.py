"""A large upload may come in parts; together they are verified like any other."""

import os
from collections.abc import Sequence

import pytest

from tests.hub.process import Answer, Hub, wait_for
from tests.hub.publishing import Acme, stored_files
from tests.hub.test_pushes import Push
from tests.running.closures import Member, member

NAME = "0123456789abcdef"


@pytest.fixture
def acme(shared_hub: Hub) -> Acme:
    return Acme(shared_hub)


def put_parts(push: Push, body: bytes, *, size: int = 10_000, leave_out: Sequence[int] = ()) -> int:
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    for number, piece in enumerate(pieces):
        if number not in leave_out:
            place = f"{push.place}/parts/{NAME}/{number}"
            assert push.acme.ask("PUT", place, body=piece).status == 204
    return len(pieces)


def take(push: Push, count: object, name: str = NAME) -> Answer:
    return push.acme.ask("POST", f"{push.place}/nars?upload={name}&parts={count}")


def opened(acme: Acme, *closure: Member) -> Push:
    return Push(acme, closure).open()


def test_parts_are_an_upload_once_they_are_together(acme: Acme) -> None:
    closure = [member(f"part-{each}", os.urandom(8), os.urandom(30_000)) for each in range(3)]
    push = opened(acme, *closure)
    count = put_parts(push, b"".join(each.frame for each in closure))
    assert count > 5
    assert take(push, count).json()["accepted"] == 3
    # The answer was lost: it is asked again.
    assert take(push, count).json()["accepted"] == 0
    assert push.finish().json() == {"paths": 3}
    assert all(acme.narinfo(each).status == 200 for each in closure)


def test_a_part_that_is_sent_again_is_one_part(acme: Acme) -> None:
    path = member("again", os.urandom(8), os.urandom(30_000))
    push = opened(acme, path)
    put_parts(push, path.frame)
    count = put_parts(push, path.frame)
    assert take(push, count).json()["accepted"] == 1


def test_a_part_that_did_not_come_is_named(acme: Acme) -> None:
    path = member("gap", os.urandom(8), os.urandom(30_000))
    push = opened(acme, path)
    count = put_parts(push, path.frame, leave_out=[1])
    refused = take(push, count)
    assert (refused.status, refused.ref) == (422, "bad-nar")
    assert "Part 1" in refused.json()["error"]["message"]
    put_parts(push, path.frame)
    assert take(push, count).json()["accepted"] == 1


def test_parts_that_are_no_right_nar_are_refused_like_a_whole(acme: Acme) -> None:
    path = member("wrong", os.urandom(8), os.urandom(30_000))
    push = opened(acme, path)
    body = bytearray(path.frame)
    body[20_000] ^= 1
    assert take(push, put_parts(push, bytes(body))).status == 422
    assert push.finish().ref == "push-incomplete"
    assert stored_files(acme.hub, "spool") == []


def test_parts_are_their_own_pushs_alone(acme: Acme) -> None:
    path = member("own", os.urandom(8), os.urandom(30_000))
    first, second = opened(acme, path), opened(acme, path)
    count = put_parts(first, path.frame)
    assert take(second, count).ref == "bad-nar"


@pytest.mark.parametrize("name", ["x", "..", "0123456789ABCDEF", "a" * 33, "%2e%2e"])
def test_an_upload_has_a_plain_name(acme: Acme, name: str) -> None:
    push = opened(acme, member("named", 1))
    assert acme.ask("PUT", f"{push.place}/parts/{name}/0", body=b"x").ref == "bad-name"
    assert take(push, 1, name).ref == "bad-name"


@pytest.mark.parametrize("number", ["-1", "x", "99999", "1e3"])
def test_a_part_has_a_number(acme: Acme, number: str) -> None:
    push = opened(acme, member("numbered", 1))
    assert acme.ask("PUT", f"{push.place}/parts/{NAME}/{number}", body=b"x").ref == "bad-name"
    assert take(push, number).ref == "bad-name"


def test_parts_that_nobody_puts_together_are_collected(acme: Acme) -> None:
    path = member("left", os.urandom(8), os.urandom(30_000))
    put_parts(opened(acme, path), path.frame)
    assert len(stored_files(acme.hub, "part")) >= 3

    def collected() -> bool:
        acme.hub.command("gc", "--grace", "1s")
        return stored_files(acme.hub, "part") == []

    wait_for(collected)
