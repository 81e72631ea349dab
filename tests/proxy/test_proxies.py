"""What the shipped configurations of nginx and Caddy pass on, send themselves, and keep to themselves."""

import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.hub.process import Answer, Hub, wait_for
from tests.proxy.conftest import Behind, echo, shipped
from tests.running.closures import member, publish
from tests.running.nginx import hub_options
from tests.running.tenants import make_tenant


def nar_path(behind: Behind, place: int = 0) -> str:
    return f"{behind.tenant.cache_path}/nar/{behind.members[place].nar_hash.base32}.nar.zst"


def get(behind: Behind, path: str, token: str | None = None, method: str = "GET", **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return behind.through.request(method, path, token=token, headers=named)


def test_a_nar_is_the_hubs_own_with_the_hubs_headers(behind: Behind) -> None:
    by_proxy = get(behind, nar_path(behind), behind.tenant.token)
    by_hub = behind.direct.request("GET", nar_path(behind), token=behind.tenant.token)
    assert by_proxy.status == 200
    assert by_proxy.body == _file(behind).read_bytes()
    assert by_proxy.headers["x-accel-redirect"] is None
    for name in ("etag", "cache-control", "content-type", "x-content-type-options"):
        assert by_proxy.headers[name] == by_hub.headers[name], name
    assert by_proxy.headers["last-modified"] is None
    assert by_proxy.headers["x-request-id"]


def test_parts_of_a_nar_can_be_had_and_resumed_by_its_tag(behind: Behind) -> None:
    whole = get(behind, nar_path(behind), behind.tenant.token)
    etag = whole.headers["etag"]
    for wanted, part in (
        ("0-0", whole.body[:1]),
        ("1000-1999", whole.body[1000:2000]),
        ("-9", whole.body[-9:]),
    ):
        answer = get(behind, nar_path(behind), behind.tenant.token, Range=f"bytes={wanted}", If_Range=etag)
        assert (answer.status, answer.body) == (206, part)
        assert answer.headers["etag"] == etag
    other = get(behind, nar_path(behind), behind.tenant.token, Range="bytes=0-0", If_Range='"other"')
    assert (other.status, len(other.body)) == (200, len(whole.body))
    beyond = get(behind, nar_path(behind), behind.tenant.token, Range="bytes=99999999-")
    assert beyond.status == 416
    assert get(behind, nar_path(behind), behind.tenant.token, If_None_Match=etag).status == 304


def test_head_tells_the_size_of_a_nar_and_sends_none_of_it(behind: Behind) -> None:
    answer = get(behind, nar_path(behind), behind.tenant.token, method="HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert int(answer.headers["content-length"]) == _file(behind).stat().st_size


def test_nobody_gets_at_the_files_without_the_hub(behind: Behind) -> None:
    inside = f"/_piste/objects/{_file(behind).relative_to(_objects(behind))}"
    games = (
        inside,
        f"/x/..{inside}",
        inside.replace("nar", "%6ear", 1),
        f"/{inside}",
        inside.replace("/nar", "//nar"),
    )
    for target in (*games, "/_piste/objects/../piste.sqlite", "/_piste/objects/"):
        for token in (None, behind.tenant.token):
            assert get(behind, target, token).status in (400, 404), target
    assert get(behind, nar_path(behind)).status == 404
    for path in (nar_path(behind), f"{behind.tenant.cache_path}/{behind.members[0].path.hash_part}.narinfo"):
        assert get(behind, path, "piste_user_wrong").status == 401
    assert get(behind, inside, X_Accel_Redirect=inside).status == 404


def test_a_token_of_another_project_gets_what_a_stranger_gets(behind: Behind) -> None:
    other = make_tenant(behind.direct, "other", "web")
    for path in (nar_path(behind), f"{behind.tenant.cache_path}/{behind.members[0].path.hash_part}.narinfo"):
        assert get(behind, path, behind.tenant.token).status == 200
        for _ in range(3):
            strange = get(behind, path, other.token, X_Request_Id="r")
            missing = get(behind, path.replace("acme", "nobody"), other.token, X_Request_Id="r")
            assert (strange.status, strange.body) == (missing.status, missing.body)
            assert strange.status == 404


def test_a_revoked_token_ends_within_a_second_while_it_is_used(behind: Behind) -> None:
    hub = behind.direct
    tokens = "/api/v1/organizations/acme/tokens"
    made = hub.as_admin("POST", tokens, json={"kind": "device", "description": "a host"})
    narinfo = f"{behind.tenant.cache_path}/{behind.members[0].path.hash_part}.narinfo"
    for path in (narinfo, nar_path(behind)):
        for _ in range(5):
            assert get(behind, path, made["token"]).status == 200
    hub.as_admin("DELETE", f"{tokens}/{made['id']}")
    ended = time.monotonic()
    for path in (narinfo, nar_path(behind)):
        while get(behind, path, made["token"]).status == 200:
            assert time.monotonic() - ended < 5
        assert get(behind, path, made["token"]).status == 401


def test_uploads_of_any_size_go_on_as_they_come(behind: Behind) -> None:
    large = member("large", "behind nginx", bytes(range(256)) * 40_000)
    with behind.tenant.client() as client:
        publish(client, "acme", "web", "2.0.0", [large])
    name = f"{behind.tenant.cache_path}/{large.path.hash_part}.narinfo"
    assert get(behind, name, behind.tenant.token).status == 200


def test_the_log_has_neither_query_nor_credential_nor_user(behind: Behind) -> None:
    get(behind, f"{behind.tenant.api}/resolve/1/x?token=true&secret=hidden", behind.tenant.token)
    get(behind, "/healthz", Authorization="Basic dXNlci1uYW1lOnNlY3JldA==")
    wait_for(lambda: "/resolve/1/x" in behind.log.read_text())
    log = behind.log.read_text()
    for secret in ("hidden", "token=", behind.tenant.token, "user-name", "dXNlci"):
        assert secret not in log


def test_the_log_has_no_address_to_upload_to(behind: Behind) -> None:
    for target in ("/upload-address/secret1", "/%75pload-address/secret1", "/x/../upload-address/secret1"):
        get(behind, target, method="PUT")
    get(behind, "/after-the-uploads")
    wait_for(lambda: "/after-the-uploads" in behind.log.read_text())
    assert "secret1" not in behind.log.read_text()


def test_the_hub_logs_the_address_of_the_client_and_no_client_can_say_another(behind: Behind) -> None:
    get(behind, "/healthz", X_Request_Id="forged", X_Forwarded_For="203.0.113.9")

    def lines() -> list[str]:
        found = behind.direct.log_lines("request")
        return [line["client"] for line in found if line["request_id"] == "forged"]

    wait_for(lines)
    assert lines() == ["127.0.0.1"]


def test_nars_are_open_to_the_hubs_group_and_nothing_else_is(behind: Behind) -> None:
    get(behind, nar_path(behind), behind.tenant.token)
    assert stat.S_IMODE(_file(behind).stat().st_mode) == 0o640
    for file in behind.direct.data.rglob("*"):
        mode = stat.S_IMODE(file.stat().st_mode)
        within = "nar" in file.parts[len(behind.direct.data.parts) :]
        assert not mode & 0o007, file
        if file.is_dir():
            assert not mode & 0o060, f"{file} can be listed or changed"
        elif not within:
            assert not mode & 0o070, file


@pytest.fixture(scope="module")
def echoing(proxy: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("echo")
    at = folder / "echo.sock"
    with echo(at), shipped(proxy, folder / proxy, at, folder) as port:
        yield port


# What may not stand in an address as it is makes Caddy take the path apart and write it anew.
_BY_CADDY: Final = {
    "/nar/a+b^c|d[e]{f}": "/nar/a+b%5Ec%7Cd%5Be%5D%7Bf%7D",
    "/nar/a^b%2Fc%252Fd": "/nar/a%5Eb/c%252Fd",
}


@pytest.mark.parametrize(
    "target",
    [
        "//healthz",
        "/./healthz",
        "/x/../healthz",
        "/a//b",
        "/%2Fhealthz",
        "/nar/x%252Fy",
        "/nar/a+b^c|d[e]{f}",
        "/nar/a^b%2Fc%252Fd",
        "/f/acme/web/%3E=1,%3C3",
        "/f/acme/web/*",
        "/up/Ab//c+d/e==",
        "/x?a=%2F&b=//",
        "/%7Euser",
        "/a;b=c",
        "/%FF",
    ],
)
def test_a_target_arrives_as_it_was_sent(proxy: str, echoing: int, target: str) -> None:
    with socket.create_connection(("127.0.0.1", echoing), timeout=20) as connection:
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    if proxy == "caddy":
        target = _BY_CADDY.get(target, target)
    assert f"\r\n\r\nGET {target} HTTP/1.1\r\n".encode() in answer


def test_who_comes_by_the_socket_alone_is_told_of_files_and_believed(behind: Behind) -> None:
    forged = {"X-Forwarded-For": "203.0.113.9", "X-Request-Id": "by-port"}
    by_port = behind.direct.request("GET", nar_path(behind), token=behind.tenant.token, headers=forged)
    assert by_port.headers["x-accel-redirect"] is None
    assert by_port.body == _file(behind).read_bytes()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(str(_socket(behind)))
        connection.sendall(
            f"GET {nar_path(behind)} HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer {behind.tenant.token}\r\n"
            "X-Forwarded-For: 203.0.113.9\r\nX-Request-Id: by-socket\r\n\r\n".encode()
        )
        answer = connection.recv(65536).decode()
    inside = f"/_piste/objects/{_file(behind).relative_to(_objects(behind))}"
    assert f"x-accel-redirect: {inside}\r\n" in answer

    def clients() -> dict[str, str]:
        return {line["request_id"]: line["client"] for line in behind.direct.log_lines("request")}

    wait_for(lambda: "by-socket" in clients())
    assert clients()["by-port"] == "127.0.0.1"
    assert clients()["by-socket"] == "203.0.113.9"


def test_the_socket_is_for_the_hubs_group_and_goes_with_the_hub(tmp_path: Path) -> None:
    at = tmp_path / "proxy.sock"
    hub = Hub(tmp_path / "hub", options=hub_options(at))
    try:
        hub.start()
        assert stat.S_IMODE(at.stat().st_mode) == 0o660
        second = hub.command("serve", "--listen", "127.0.0.1:0", *hub_options(at), check=False)
        assert (second.returncode, "cannot-listen" in second.stderr) == (2, True)
        hub.kill()
        assert at.exists(), "what was killed leaves it"
        hub.start()
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(at))
        assert hub.stop() == 0
        assert not at.exists()
        at.write_text("a file of somebody's")
        other = hub.command("serve", "--listen", "127.0.0.1:0", *hub_options(at), check=False)
        assert other.returncode == 2
        assert at.read_text() == "a file of somebody's"
    finally:
        hub.close()


def test_who_is_no_trusted_proxy_is_never_told_of_files(tmp_path: Path) -> None:
    options = ("--trusted-proxy", "192.0.2.1", "--accel-redirect", "/_piste/objects/")
    hub = Hub(tmp_path / "hub", options=options)
    try:
        hub.start()
        tenant = make_tenant(hub, "acme", "web", "public")
        one = member("one", "untrusted", b"x" * 1000)
        with tenant.client() as client:
            publish(client, "acme", "web", "1.0.0", [one])
        answer = hub.request("GET", f"{tenant.cache_path}/nar/{one.nar_hash.base32}.nar.zst")
    finally:
        hub.close()
    assert answer.headers["x-accel-redirect"] is None
    assert answer.body


@pytest.mark.parametrize(
    "options",
    [
        ("--accel-redirect", "/_piste/objects/"),
        ("--accel-redirect", "_piste", "--trusted-proxy", "127.0.0.1"),
        ("--accel-redirect", "/a/../b/", "--trusted-proxy", "127.0.0.1"),
    ],
)
def test_a_proxy_that_sends_files_has_to_be_named_and_its_address_to_be_one(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    failed = Hub(tmp_path / "hub").command("serve", *options, check=False)
    assert failed.returncode == 2
    assert "bad-setting" in failed.stderr


def _socket(behind: Behind) -> Path:
    return behind.direct.data.parent / "proxy.sock"


def _objects(behind: Behind) -> Path:
    return behind.direct.data / "objects"


def _file(behind: Behind, place: int = 0) -> Path:
    name = f"{behind.members[place].nar_hash.base32}.nar.zst"
    return _objects(behind) / "nar" / name[:2] / name
