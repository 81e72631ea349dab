"""Small texts, such as narinfos, in any number of pieces."""

import asyncio
from http.server import BaseHTTPRequestHandler

from piste.client.transfer import fetch_text, open_session
from tests.client.server import Misbehaving, answer, serving


def test_a_narinfo_that_is_not_there_is_none() -> None:
    async def run(server: Misbehaving) -> list[str | None]:
        async with open_session(secure=False) as session:
            return [await fetch_text(session, f"{server.url}/{name}") for name in ("a", "b")]

    def behaviour(handler: BaseHTTPRequestHandler, number: int) -> None:
        answer(handler, 200 if handler.path == "/a" else 404, b"text")

    with serving(behaviour) as server:
        assert asyncio.run(run(server)) == ["text", None]


def test_a_narinfo_that_arrives_in_pieces_is_read_to_its_end_and_a_longer_one_is_none() -> None:
    texts = {"/long": b"a" * 900_000, "/too-long": b"a" * 3_000_000}

    async def run(server: Misbehaving) -> list[str | None]:
        async with open_session(secure=False) as session:
            return [await fetch_text(session, server.url + name) for name in texts]

    def behaviour(handler: BaseHTTPRequestHandler, number: int) -> None:
        answer(handler, 200, texts[handler.path])

    with serving(behaviour) as server:
        assert asyncio.run(run(server)) == ["a" * 900_000, None]
