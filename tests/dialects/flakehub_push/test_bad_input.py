"""What is sent wrong, twice, too late or by half leaves nothing behind, and is answered so that the client
can show it."""

import base64
import gzip
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from piste.nix.signature import SecretKey
from tests.dialects.flakehub_push.pusher import FLAKE, Pusher, Reply, exchange, inventory, leaf, pack
from tests.hub.process import Hub
from tests.hub.publishing import Acme, stored_files

BOMB = 64 << 20
WAY = ["upload", "upload-address", "publish"]


def entries_of(acme: Acme) -> list[dict[str, Any]]:
    """The audit log of the organization."""
    place = f"/api/v1/organizations/{acme.organization}/audit"
    answer = acme.hub.request("GET", place, token=acme.hub.admin)
    return [json.loads(line) for line in answer.body.splitlines()]


def pusher(acme: Acme, version: str = "1.0.0", **said: Any) -> Pusher:
    return Pusher(acme.hub, acme.member, f"{acme.organization}/{acme.project}", version, said=said)


def releases(acme: Acme) -> list[Any]:
    found: list[Any] = acme.ask("GET", f"{acme.base}/releases").json()
    return found


def tarred(*entries: tuple[str, bytes] | tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=tarfile.GNU_FORMAT) as archive:
        for each in entries:
            if isinstance(each, tarfile.TarInfo):
                archive.addfile(each)
                continue
            entry = tarfile.TarInfo(each[0])
            entry.size = len(each[1])
            archive.addfile(entry, io.BytesIO(each[1]))
    return buffer.getvalue()


def link(name: str, target: str) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.SYMTYPE, target
    return entry


def bomb() -> bytes:
    return tarred(("s/flake.nix", FLAKE), ("s/zeros", bytes(BOMB)))


SOURCES: dict[str, Callable[[], bytes]] = {
    "no archive at all": lambda: b"x" * 1000,
    "an archive that is not packed": lambda: gzip.decompress(pack({"flake.nix": FLAKE})),
    "something else, packed": lambda: gzip.compress(b"x" * 1000),
    "an archive that is cut short": lambda: pack({"flake.nix": FLAKE})[:-20],
    "something after the end": lambda: pack({"flake.nix": FLAKE}) + b"more",
    "no flake": lambda: pack({"default.nix": FLAKE}),
    "a flake in a subfolder": lambda: pack({"nix/flake.nix": FLAKE}),
    "files that leave their folder": lambda: tarred(("s/flake.nix", FLAKE), ("s/../../etc/passwd", b"x")),
    "files behind a link": lambda: tarred(("s/flake.nix", FLAKE), link("s/l", "/etc"), ("s/l/x", b"x")),
    "two folders": lambda: tarred(("s/flake.nix", FLAKE), ("t/flake.nix", FLAKE)),
    "a bomb": bomb,
    "nothing": lambda: b"",
}


@pytest.mark.parametrize("source", SOURCES)
def test_what_is_no_source_is_refused_and_leaves_nothing(acme: Acme, source: str) -> None:
    push = pusher(acme)
    push.tarball = SOURCES[source]()
    assert push.stage().status == 200
    refused = push.put()
    assert refused.status == 400
    assert "source" in refused.json()
    assert push.publish().status == 400
    assert releases(acme) == []
    assert stored_files(acme.hub, "spool") == []


def test_other_bytes_than_were_announced_are_refused_and_the_right_ones_still_taken(acme: Acme) -> None:
    push = pusher(acme)
    push.stage()
    longer, same = push.tarball + b"\0", pack({"flake.nix": FLAKE.replace(b"_", b"x")})
    assert (push.put(longer).status, push.put(push.tarball[:-1]).status) == (400, 400)
    if len(same) == len(push.tarball):
        assert push.put(same).status == 400
    other = base64.b64encode(bytes(32)).decode()
    assert "SHA-256" in push.put(checksum=other).json()
    assert push.put().status == 200
    assert push.publish().status == 200


def test_a_source_of_the_right_length_and_another_hash_is_refused(acme: Acme) -> None:
    push = pusher(acme)
    push.stage(digest=base64.b64encode(bytes(range(32))).decode())
    refused = push.put(checksum=base64.b64encode(bytes(range(32))).decode())
    assert (refused.status, "SHA-256" in refused.json()) == (400, True)


def test_a_length_that_was_announced_too_small_is_noticed_while_the_source_arrives(acme: Acme) -> None:
    push = pusher(acme)
    push.stage(length=10)
    assert chunked_put(acme.hub, push.url, push.tarball).status == 400
    push.stage(length=len(push.tarball))
    assert chunked_put(acme.hub, push.url, push.tarball).status == 200


def chunked_put(hub: Hub, url: str, data: bytes) -> Reply:
    """By a client that does not say how much will come."""
    body = f"{len(data):x}\r\n".encode() + data + b"\r\n0\r\n\r\n"
    return exchange(hub, [f"PUT {url.removeprefix(hub.url)} HTTP/1.1", "transfer-encoding: chunked"], body)


def test_addresses_that_are_none_are_refused_in_words(acme: Acme) -> None:
    push = pusher(acme)
    assert push.stage(length=-1).status == 400
    assert push.stage(length=1 << 40).status == 400
    assert "proxy" in push.stage(digest=push.digest[:-4]).json()
    assert push.stage(digest="é=").status == 400
    push.version = "1.0"
    assert "version" in push.stage().json()
    push.version = "0.1.7+rev-abc"
    assert push.stage().status == 200  # a version like any other, only not a rolling one
    push.name = f"{acme.organization}/-x"
    assert push.stage().status == 400
    push.name = "nobody/web"
    assert push.stage().status == 404


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b"\xff",
        b'{"unknown": "\xff"}',
        b'{"unknown": "\x00"}',
        b'{"outputs": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"labels": 1}',
    ],
)
def test_a_body_that_is_no_metadata_is_a_bad_request_on_one_line(acme: Acme, body: bytes) -> None:
    refused = pusher(acme).stage(body=body)
    assert refused.status == 400
    assert isinstance(refused.json(), str)
    assert b"\n" not in refused.body


def test_an_inventory_without_measure_is_refused(acme: Acme) -> None:
    deep: dict[str, Any] = leaf()
    for _ in range(40):
        deep = {"children": {"x": deep}}
    assert pusher(acme, outputs={"version": 1, "inventory": {"packages": deep}}).stage().status == 400
    many = {f"n{number}": leaf(f"/nix/store/{'0' * 32}-x") for number in range(10_001)}
    assert pusher(acme, outputs=inventory({"packages": many})).stage().status == 400
    wrong = inventory({"packages": {"x": leaf("/nix/store/short-x")}})
    assert "packages.x" in pusher(acme, outputs=wrong).stage().json()
    assert releases(acme) == []


def test_names_that_nobody_can_ask_for_are_left_out_and_odd_ones_are_quoted(acme: Acme) -> None:
    path = f"/nix/store/{'0' * 32}-x"
    tree = {"packages": {'a"b\\c': leaf(path), "a\nb": leaf(path), "${x}": leaf(path)}}
    pusher(acme, outputs=inventory(tree)).run()
    outputs = acme.ask("GET", f"{acme.base}/releases/1").json()["outputs"]
    assert [each["attribute"] for each in outputs] == ['packages."${x}"', 'packages."a\\"b\\\\c"']


def test_a_system_that_is_none_is_left_out(acme: Acme) -> None:
    tree = {"packages": {"odd": {"x": leaf(f"/nix/store/{'0' * 32}-x", "odd")}}}
    pusher(acme, outputs=inventory(tree)).run()
    assert [each["system"] for each in acme.ask("GET", f"{acme.base}/releases/1").json()["outputs"]] == [None]


def test_an_organization_that_keeps_its_keys_is_told_when_a_release_is_staged(acme: Acme) -> None:
    key = {"public_key": str(SecretKey.generate("own-1").public)}
    place = f"/api/v1/organizations/{acme.organization}/keys"
    acme.hub.as_admin("POST", place, json=key)
    for each in acme.hub.as_admin("GET", place):
        if each["held_by"] == "hub":
            acme.hub.as_admin("DELETE", f"{place}/{each['public_key'].partition(':')[0]}")
    refused = pusher(acme).stage()
    assert refused.status == 400
    assert "keeps its keys to itself" in refused.json()


def test_publishing_before_the_upload_publishes_nothing(acme: Acme) -> None:
    push = pusher(acme)
    push.stage()
    refused = push.publish()
    assert (refused.status, "no source" in refused.json()) == (400, True)
    assert releases(acme) == []
    push.put()
    assert push.publish().status == 200


@pytest.mark.parametrize("uuid", ["018f0000-0000-7000-8000-000000000001", "x", "%00", "..", "a" * 5000])
def test_an_uuid_that_names_nothing_is_missing(acme: Acme, uuid: str) -> None:
    assert pusher(acme).publish(uuid).status == 404


def test_a_version_may_be_staged_again_after_an_upload_that_failed(acme: Acme) -> None:
    first = pusher(acme)
    first.stage()
    first.put(first.tarball[:-5])
    second = pusher(acme)
    second.run()
    assert first.put().status == 200
    assert first.publish().status == 200  # the same content as is there
    assert len(releases(acme)) == 1


def test_an_upload_that_is_broken_off_leaves_its_address_good(acme: Acme) -> None:
    push = pusher(acme)
    push.tarball = pack({"flake.nix": FLAKE, "noise": bytes(range(256)) * 4096})
    push.stage()
    connection = acme.hub.connect()
    connection.putrequest("PUT", push.url.removeprefix(acme.hub.url))
    connection.putheader("Content-Length", str(len(push.tarball)))
    connection.endheaders()
    connection.send(push.tarball[:100])
    connection.close()
    assert push.put().status == 200
    assert push.publish().status == 200


@pytest.mark.parametrize("address", ["x", "%2e%2e", "a" * 43, "a" * 5000])
def test_an_address_that_the_hub_did_not_give_takes_nothing(acme: Acme, address: str) -> None:
    push = pusher(acme)
    assert push.put(url=f"{acme.hub.url}/upload-address/{address}").status == 401
    assert stored_files(acme.hub, "spool") == []


def test_an_address_ends_with_its_publication(acme: Acme) -> None:
    push = pusher(acme)
    push.stage()
    assert acme.ask("DELETE", f"{acme.base}/publications/{push.uuid}").status == 204
    assert push.put().status == 401
    assert push.publish().status == 404


def test_the_secret_of_an_address_is_in_no_log_no_error_and_no_table(acme: Acme) -> None:
    push = pusher(acme)
    push.stage()
    secret = push.url.rpartition("/")[2]
    assert secret.encode() not in push.put(b"x").body
    push.put()
    push.put()
    push.publish()
    assert acme.hub.log_lines("request")[-1]["route"]
    assert not any(secret in line for line in acme.hub.lines)
    assert secret not in json.dumps(entries_of(acme))
    for file in Path(acme.hub.data).glob("piste.sqlite*"):
        assert secret.encode() not in file.read_bytes()


def test_the_audit_log_names_who_staged_for_each_step(acme: Acme) -> None:
    pusher(acme).run()
    steps = [each for each in entries_of(acme) if each["action"].split("/")[1] in WAY]
    assert [each["action"].split("/")[1] for each in steps] == WAY
    assert {each["name"] for each in steps} == {f"{acme.organization}-publisher"}
    assert {each["project"] for each in steps} == {"web"}
    assert steps[0]["subject"] == "version 1.0.0"
    assert steps[2]["subject"].startswith("version 1.0.0 release ")


def test_the_address_of_somebody_who_may_publish_no_longer_takes_nothing(acme: Acme) -> None:
    push = pusher(acme)
    push.token = acme.hub.make_member(acme.organization, f"{acme.organization}-leaver")
    assert push.stage().status == 200
    place = f"/api/v1/organizations/{acme.organization}/members/{acme.organization}-leaver"
    acme.hub.as_admin("DELETE", place)
    assert push.put().status == 401
    assert acme.ask("POST", f"/publish/{push.uuid}").status == 400  # it has no source
