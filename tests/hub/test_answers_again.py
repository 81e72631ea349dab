"""Narinfos and NARs that are answered from memory: the same bytes, and never longer than the right to them
lasts."""

import random
import socket
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, Final

import pytest

from piste.hub.http1.memory import Keep, Memory
from tests.hub.process import Hub, wait_for
from tests.running.closures import Member, make_closure, member, publish
from tests.running.tenants import Tenant, make_tenant


def published(hub: Hub, visibility: str = "private") -> tuple[Tenant, list[Member]]:
    tenant = make_tenant(hub, f"again-{time.time_ns()}", "web", visibility)
    members = make_closure(3, paths=2, size=2000)
    with tenant.client() as client:
        publish(client, tenant.organization, tenant.project, "1.0.0", members)
    return tenant, members


def narinfo(of: Member) -> str:
    return f"{of.path.hash_part}.narinfo"


def nar(of: Member) -> str:
    return f"nar/{of.nar_hash.base32}.nar.zst"


Name = Callable[[Member], str]
EITHER: Final = pytest.mark.parametrize("name", [narinfo, nar])


class Reader:
    """One connection that asks for the same file again and again."""

    def __init__(self, tenant: Tenant, path: Member, token: str | None, name: Name = narinfo) -> None:
        self._connection = tenant.hub.connect()
        self._path = f"{tenant.cache_path}/{name(path)}"
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def read(self) -> tuple[int, bytes, str]:
        self._connection.request("GET", self._path, headers=self._headers)
        answer = self._connection.getresponse()
        return answer.status, answer.read(), answer.headers["x-request-id"]

    def ask(self, method: str, **headers: str) -> tuple[int, bytes]:
        self._connection.request(method, self._path, headers={**self._headers, **headers})
        answer = self._connection.getresponse()
        return answer.status, answer.read()

    def warm(self) -> bytes:
        """Read until it is answered from memory, as the log tells afterwards; what it says."""
        found = {self.read()[1] for _ in range(5)}
        assert len(found) == 1
        return found.pop()


@EITHER
def test_the_second_answer_is_the_first_with_an_id_of_its_own(shared_hub: Hub, name: Name) -> None:
    hub = shared_hub
    tenant, members = published(hub)
    reader = Reader(tenant, members[0], tenant.token, name)
    answers = [reader.read() for _ in range(20)]
    assert {(status, body) for status, body, _ in answers} == {answers[0][:2]}
    assert len({identifier for _, _, identifier in answers}) == 20
    route = "/cache/{org}/{project}/" + ("{hash}.narinfo" if name is narinfo else "nar/{file}")
    wait_for(lambda: [line for line in hub.log_lines("requests") if line["route"] == route])
    line = next(line for line in hub.log_lines("requests") if line["route"] == route)
    assert line["token"] is not None
    assert "again" not in str(line), "neither target nor name"


def test_a_nar_from_memory_is_the_same_for_who_asks_for_less_of_it_or_before_its_turn(
    shared_hub: Hub,
) -> None:
    tenant, members = published(shared_hub)
    reader = Reader(tenant, members[0], tenant.token, nar)
    whole = reader.warm()
    assert reader.ask("GET", Range="bytes=10-99") == (206, whole[10:100])
    assert reader.ask("HEAD") == (200, b"")
    assert reader.ask("GET") == (200, whole)
    with socket.create_connection(("127.0.0.1", int(tenant.hub.listen.rpartition(":")[2])), 10) as plain:
        answers = plain.makefile("rb")
        request = (
            f"GET {tenant.cache_path}/{nar(members[0])} HTTP/1.1\r\nHost: x\r\n"
            f"Authorization: Bearer {tenant.token}\r\n\r\n"
        ).encode()
        for _ in range(3):
            plain.sendall(request)
            assert _body(answers, len(whole)) == whole
        # The second comes while the first is still being sent, the third in two pieces.
        plain.sendall(request)
        plain.sendall(request + request[:30])
        assert [_body(answers, len(whole)) for _ in range(2)] == [whole] * 2
        plain.sendall(request[30:])
        assert _body(answers, len(whole)) == whole


def test_a_nar_that_is_gone_from_the_disk_is_not_promised_again(shared_hub: Hub) -> None:
    tenant, members = published(shared_hub)
    reader = Reader(tenant, members[0], tenant.token, nar)
    reader.warm()
    for file in (shared_hub.data / "objects" / "nar").rglob(nar(members[0]).removeprefix("nar/")):
        file.unlink()
    assert reader.read()[0] == 404


def test_a_client_that_leaves_in_the_middle_of_a_nar_holds_nothing_up(shared_hub: Hub) -> None:
    tenant = make_tenant(shared_hub, f"again-{time.time_ns()}", "web")
    large = member("large", time.time_ns(), random.Random(5).randbytes(20_000_000))
    with tenant.client() as client:
        publish(client, tenant.organization, tenant.project, "1.0.0", [large])
    whole = Reader(tenant, large, tenant.token, nar).warm()
    before = _open_files(shared_hub)
    for _ in range(5):
        with closing(tenant.hub.connect()) as leaving:
            leaving.request(
                "GET",
                f"{tenant.cache_path}/{nar(large)}",
                headers={"Authorization": f"Bearer {tenant.token}"},
            )
            assert leaving.getresponse().read(1000) == whole[:1000]
    assert Reader(tenant, large, tenant.token, nar).read()[1] == whole
    wait_for(lambda: _open_files(shared_hub) <= before)


@EITHER
def test_what_ends_a_right_ends_it_within_a_second_also_while_it_is_used(shared_hub: Hub, name: Name) -> None:
    hub = shared_hub
    tenant, members = published(hub)
    device = hub.make_token(tenant.organization, kind="device")
    number = next(
        each["id"]
        for each in hub.as_admin("GET", f"/api/v1/organizations/{tenant.organization}/tokens")
        if each["kind"] == "device"
    )
    reader = Reader(tenant, members[0], device, name)
    reader.warm()
    _ends(reader, 401, lambda: hub.as_admin("DELETE", _token(tenant, number)))


@EITHER
def test_a_project_that_is_closed_to_the_public_is_so_within_a_second(shared_hub: Hub, name: Name) -> None:
    hub = shared_hub
    tenant, members = published(hub, "public")
    reader = Reader(tenant, members[0], None, name)
    reader.warm()
    _ends(reader, 404, lambda: hub.as_admin("PATCH", tenant.api, json={"visibility": "private"}))


@EITHER
def test_an_answer_is_for_one_credential_and_one_path(shared_hub: Hub, name: Name) -> None:
    hub = shared_hub
    tenant, members = published(hub)
    stranger, _ = published(hub)
    bodies = [Reader(tenant, each, tenant.token, name).warm() for each in members]
    assert len(set(bodies)) == len(members)
    for token in (None, stranger.token):
        for _ in range(3):
            assert Reader(tenant, members[0], token, name).read()[0] == 404
    assert Reader(tenant, members[0], "piste_user_wrong", name).read()[0] == 401


def test_memory_is_bounded_and_knows_only_what_was_begun_after_the_last_change() -> None:
    memory = Memory()
    memory._fresh_until = time.monotonic() + 60
    keep = Keep(time.monotonic() + 60, "/x.narinfo", None, "-")
    generation = memory.generation
    memory.keep("a", b"GET /1", b"h", keep, b"one", generation)
    assert memory.find("a", b"GET /1", b"h") == b"one"
    assert memory.find("b", b"GET /1", b"h") is None, "another address"
    assert memory.find("a", b"GET /1", b"H") is None, "another byte"
    memory.forget()
    memory.keep("a", b"GET /1", b"h", keep, b"old", generation)
    assert memory.find("a", b"GET /1", b"h") is None, "it was begun before the change"
    for number in range(60):
        memory.keep("a", b"GET /%d" % number, b"h", keep, bytes(1 << 20), memory.generation)
        assert memory._bytes <= 48 << 20
    late = Keep(time.monotonic() - 1, "/x.narinfo", None, "-")
    memory.keep("late", b"GET /1", b"h", late, b"one", memory.generation)
    assert memory.find("late", b"GET /1", b"h") is None
    memory._fresh_until = time.monotonic() - 1
    assert memory.find("a", b"GET /59", b"h") is None, "nobody has looked for a second"


def _body(answers: BinaryIO, length: int) -> bytes:
    """Of the next answer; what stands before it is left out."""
    assert answers.readline().startswith(b"HTTP/1.1 200")
    while answers.readline() != b"\r\n":
        pass
    return answers.read(length)


def _open_files(hub: Hub) -> int:
    return len(list(Path(f"/proc/{hub.process.pid}/fd").iterdir()))


def _token(tenant: Tenant, number: str) -> str:
    return f"/api/v1/organizations/{tenant.organization}/tokens/{number}"


def _ends(reader: Reader, status: int, end: Callable[[], object]) -> None:
    assert reader.read()[0] == 200
    end()
    ended = time.monotonic()
    while reader.read()[0] == 200:
        assert time.monotonic() - ended < 5, "it goes on being answered"
    assert reader.read()[0] == status
