"""One organization's requests leave room for the others, and tell nothing of them."""

import asyncio
import socket
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

from piste.hub.access.queries import project_by_name
from piste.hub.access.records import Reach
from piste.hub.app import build
from piste.hub.cache import queries
from piste.hub.cache.workers import PLACES
from piste.hub.db.base import Database
from piste.hub.settings import make_settings
from tests.hub.process import Hub
from tests.hub.publishing import Acme, Filling, chain
from tests.running.closures import ATTRIBUTE, member


def begin(filling: Filling, many: int) -> list[socket.socket]:
    """Uploads of which one byte has come."""
    address = urlsplit(filling.acme.hub.url)
    head = (
        f"POST {filling.place}/nars HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
        f"Authorization: Bearer {filling.acme.member}\r\nContent-Length: 1000000\r\n\r\n"
    )
    made = []
    for _ in range(many):
        made.append(socket.create_connection((address.hostname, address.port), timeout=30))
        made[-1].sendall(head.encode())
    return made


def test_uploads_that_stand_still_keep_no_other_organization_waiting(sqlite_hub: Hub) -> None:
    acme, rival = Acme(sqlite_hub), Acme(sqlite_hub)
    path = member("path", "fair")
    idle, filling = rival.open(), acme.open()
    for each in (idle, filling):
        each.declare([path], {ATTRIBUTE: path})
    connections = begin(idle, PLACES)
    try:
        for connection in connections[:-1]:
            # The body is asked for once the upload has its place.
            assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        assert filling.upload(path.frame).status == 200
    finally:
        for connection in connections:
            connection.close()


def test_a_look_up_at_the_root_does_not_even_read_what_others_have(hub: Hub) -> None:
    acme, closure = Acme(hub), chain("hidden", 1)
    acme.publish("1.0.0", closure)
    path = closure[0]

    async def look_up(database: Database, reach: Reach) -> tuple[int, int]:
        by_name = await queries.paths_by_hash_part(database, path.path.hash_part, reach)
        return len(by_name), len(await queries.paths_by_nar(database, path.nar_hash.nix32(), reach))

    async def work() -> None:
        settings = make_settings(hub.data, listen="127.0.0.1:1", database=hub.database)
        async with AsyncExitStack() as stack:
            database = (await build(settings, stack)).database
            known = await project_by_name(database, acme.organization, acme.project)
            assert known is not None
            for reach in (Reach(), Reach(organizations=["other"]), Reach(projects=["other"])):
                assert await look_up(database, reach) == (0, 0)
            whole, own = Reach(everything=True), Reach(organizations=[known.organization])
            for reach in (whole, own, Reach(projects=[known.id])):
                assert await look_up(database, reach) == (1, 1)

    asyncio.run(work())
