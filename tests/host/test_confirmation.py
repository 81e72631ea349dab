"""After a switch the hub has to answer: what counts as an answer, and how long one waits for it."""

import threading
import time
from http.server import BaseHTTPRequestHandler

import pytest

from piste.client.address import parse_address
from piste.client.credentials import Credential
from piste.host import verify
from tests.client.server import Behaviour, answer, serving

STATUS = b'{"logged_in":true,"user":"ada","kind":"user","organizations":["acme"],"expires_at":null}'
PAGE = b"<html>Sign in to this network</html>"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host otherwise gives its network half a minute."""
    for name, seconds in (("_REACH", 0.5), ("_PAUSE", 0.05), ("_CONNECT", 0.2), ("_ANSWER", 20.0)):
        monkeypatch.setattr(verify, name, seconds, raising=False)


def reach(behaviour: Behaviour) -> str | None:
    with serving(behaviour) as server:
        return verify.try_reach_hub(Credential(parse_address(server.url), "secret"))


def test_a_hub_that_takes_its_time_is_waited_for() -> None:
    def behaviour(handler: BaseHTTPRequestHandler, number: int) -> None:
        threading.Event().wait(1.0)  # longer than the network is given
        answer(handler, 200, STATUS)

    assert reach(behaviour) is None


@pytest.mark.parametrize(
    ("status", "ref"),
    [(503, "overloaded"), (429, "too-many-requests"), (401, "bad-credential"), (500, "internal")],
)
def test_a_hub_that_says_no_was_reached(status: int, ref: str) -> None:
    body = f'{{"error":{{"ref":"{ref}","message":"No."}}}}'.encode()
    assert reach(lambda handler, number: answer(handler, status, body)) is None


@pytest.mark.parametrize("status", [200, 502])
def test_something_else_in_the_place_of_the_hub_is_no_answer(status: int) -> None:
    assert reach(lambda handler, number: answer(handler, status, PAGE)) is not None


def test_a_hub_that_comes_back_in_time_was_reached() -> None:
    began = time.monotonic()

    def behaviour(handler: BaseHTTPRequestHandler, number: int) -> None:
        if time.monotonic() - began < 0.3:
            answer(handler, 502, PAGE)
        else:
            answer(handler, 200, STATUS)

    assert reach(behaviour) is None
