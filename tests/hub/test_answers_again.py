"""Narinfos that are answered from memory: the same bytes, and never longer than the right to them lasts."""

import time
from collections.abc import Callable

from piste.hub.http1.memory import Keep, Memory
from tests.hub.process import Hub, wait_for
from tests.running.closures import Member, make_closure, publish
from tests.running.tenants import Tenant, make_tenant


def published(hub: Hub, visibility: str = "private") -> tuple[Tenant, list[Member]]:
    tenant = make_tenant(hub, f"again-{time.time_ns()}", "web", visibility)
    members = make_closure(3, paths=2, size=2000)
    with tenant.client() as client:
        publish(client, tenant.organization, tenant.project, "1.0.0", members)
    return tenant, members


class Reader:
    """One connection that asks for the same narinfo again and again."""

    def __init__(self, tenant: Tenant, path: Member, token: str | None) -> None:
        self._connection = tenant.hub.connect()
        self._path = f"{tenant.cache_path}/{path.path.hash_part}.narinfo"
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def read(self) -> tuple[int, bytes, str]:
        self._connection.request("GET", self._path, headers=self._headers)
        answer = self._connection.getresponse()
        return answer.status, answer.read(), answer.headers["x-request-id"]

    def warm(self) -> bytes:
        """Read until it is answered from memory, as the log tells afterwards; what it says."""
        found = {self.read()[1] for _ in range(5)}
        assert len(found) == 1
        return found.pop()


def test_the_second_answer_is_the_first_with_an_id_of_its_own(shared_hub: Hub) -> None:
    hub = shared_hub
    tenant, members = published(hub)
    reader = Reader(tenant, members[0], tenant.token)
    answers = [reader.read() for _ in range(20)]
    assert {(status, body) for status, body, _ in answers} == {answers[0][:2]}
    assert len({identifier for _, _, identifier in answers}) == 20
    wait_for(lambda: hub.log_lines("requests"))
    line = hub.log_lines("requests")[0]
    assert line["route"] == "/cache/{org}/{project}/{hash}.narinfo"
    assert line["token"] is not None
    assert "again" not in str(line), "neither target nor name"


def test_what_ends_a_right_ends_it_within_a_second_also_while_it_is_used(shared_hub: Hub) -> None:
    hub = shared_hub
    tenant, members = published(hub)
    device = hub.make_token(tenant.organization, kind="device")
    number = next(
        each["id"]
        for each in hub.as_admin("GET", f"/api/v1/organizations/{tenant.organization}/tokens")
        if each["kind"] == "device"
    )
    reader = Reader(tenant, members[0], device)
    reader.warm()
    _ends(reader, 401, lambda: hub.as_admin("DELETE", _token(tenant, number)))


def test_a_project_that_is_closed_to_the_public_is_so_within_a_second(shared_hub: Hub) -> None:
    hub = shared_hub
    tenant, members = published(hub, "public")
    reader = Reader(tenant, members[0], None)
    reader.warm()
    _ends(reader, 404, lambda: hub.as_admin("PATCH", tenant.api, json={"visibility": "private"}))


def test_an_answer_is_for_one_credential_and_one_path(shared_hub: Hub) -> None:
    hub = shared_hub
    tenant, members = published(hub)
    stranger, _ = published(hub)
    bodies = [Reader(tenant, each, tenant.token).warm() for each in members]
    assert len(set(bodies)) == len(members)
    for token in (None, stranger.token):
        for _ in range(3):
            assert Reader(tenant, members[0], token).read()[0] == 404
    assert Reader(tenant, members[0], "piste_user_wrong").read()[0] == 401


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


def _token(tenant: Tenant, number: str) -> str:
    return f"/api/v1/organizations/{tenant.organization}/tokens/{number}"


def _ends(reader: Reader, status: int, end: Callable[[], object]) -> None:
    assert reader.read()[0] == 200
    end()
    ended = time.monotonic()
    while reader.read()[0] == 200:
        assert time.monotonic() - ended < 5, "it goes on being answered"
    assert reader.read()[0] == status
