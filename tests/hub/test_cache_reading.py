"""The cache as stock clients read it, and to whom it says what."""

import json
import os

import pytest

from piste.lib.zstd import zstd
from piste.nix.narinfo import parse_narinfo
from piste.nix.signature import PublicKey
from tests.hub.process import Hub
from tests.hub.publishing import Acme, chain
from tests.running.closures import ATTRIBUTE, Member, member


@pytest.fixture
def acme(shared_hub: Hub) -> Acme:
    return Acme(shared_hub)


@pytest.fixture
def closure(acme: Acme) -> list[Member]:
    made = chain("app", content=os.urandom(1000))
    acme.publish("1.0.0", made)
    return made


def nar_url(acme: Acme, path: Member) -> str:
    return f"{acme.cache}/nar/{path.nar_hash.base32}.nar.zst"


def test_cache_info_is_what_nix_expects(acme: Acme) -> None:
    for place in ("", acme.cache):
        answer = acme.ask("GET", f"{place}/nix-cache-info")
        assert answer.body == b"StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 41\n"
    assert acme.hub.request("GET", "/nix-cache-info").status == 200


def test_a_narinfo_says_everything_and_is_signed_by_the_organization(
    acme: Acme, closure: list[Member]
) -> None:
    answer = acme.narinfo(closure[1])
    assert answer.headers["content-type"].startswith("text/x-nix-narinfo")
    narinfo = parse_narinfo(answer.body.decode())
    assert narinfo.info.path == closure[1].path
    assert narinfo.info.references == (closure[0].path,)
    assert (narinfo.compression, narinfo.url) == ("zstd", f"nar/{closure[1].nar_hash.base32}.nar.zst")
    keys = acme.hub.as_admin("GET", f"/api/v1/organizations/{acme.organization}")["public_keys"]
    assert PublicKey.parse(keys[0]).verify(narinfo.info.fingerprint(), narinfo.info.signatures[0])
    body = acme.ask("GET", f"{acme.cache}/{narinfo.url}").body
    assert len(body) == narinfo.file_size
    assert zstd.decompress(body) == closure[1].nar
    head = acme.ask("HEAD", f"{acme.cache}/{closure[1].path.hash_part}.narinfo")
    assert (head.status, head.body) == (200, b"")


@pytest.mark.parametrize(
    "name",
    ["x.narinfo", "e" * 32 + ".narinfo", "..%2F..%2Fx.narinfo", "0" * 31 + ".narinfo", "nar/x", "nar/..%2Fx"],
)
def test_what_is_no_hash_part_is_missing(acme: Acme, name: str) -> None:
    assert acme.ask("GET", f"{acme.cache}/{name}").status == 404


def test_a_nar_is_sent_whole_and_in_parts(acme: Acme, closure: list[Member]) -> None:
    place = nar_url(acme, closure[0])
    whole = acme.ask("GET", place)
    size = len(whole.body)
    assert whole.status == 200
    assert whole.headers["content-length"] == str(size)
    assert whole.headers["accept-ranges"] == "bytes"
    assert whole.headers["cache-control"] == "private, max-age=31536000, immutable"
    assert "content-encoding" not in whole.headers
    for text, start, stop in (
        ("bytes=0-0", 0, 1),
        ("bytes=10-", 10, size),
        (f"bytes=10-{size + 100}", 10, size),
        ("bytes=-7", size - 7, size),
        (f"bytes=-{size * 2}", 0, size),
    ):
        part = acme.ask("GET", place, headers={"Range": text})
        assert part.status == 206
        assert part.body == whole.body[start:stop]
        assert part.headers["content-range"] == f"bytes {start}-{stop - 1}/{size}"
        assert part.headers["content-length"] == str(stop - start)


def test_a_range_that_makes_no_sense_is_refused_or_ignored(acme: Acme, closure: list[Member]) -> None:
    place = nar_url(acme, closure[0])
    size = len(acme.ask("GET", place).body)
    for text in (f"bytes={size}-", "bytes=-0", "bytes=999999999-"):
        answer = acme.ask("GET", place, headers={"Range": text})
        assert answer.status == 416
        assert answer.headers["content-range"] == f"bytes */{size}"
    for text in ("bytes=5-2", "bytes=0-1,5-6", "lines=1-2", "bytes=-", "bytes=x-", "bytes=" + "9" * 30 + "-"):
        assert acme.ask("GET", place, headers={"Range": text}).status == 200, text


def test_who_has_a_nar_already_is_told_so(acme: Acme, closure: list[Member]) -> None:
    place = nar_url(acme, closure[0])
    etag = acme.ask("GET", place).headers["etag"]
    same = acme.ask("GET", place, headers={"If-None-Match": f'"other", W/{etag}'})
    assert (same.status, same.body) == (304, b"")
    assert acme.ask("GET", place, headers={"If-None-Match": '"other"'}).status == 200
    assert acme.ask("GET", place, headers={"If-Range": etag, "Range": "bytes=0-0"}).status == 206
    assert acme.ask("GET", place, headers={"If-Range": '"other"', "Range": "bytes=0-0"}).status == 200


def test_a_head_says_as_much_as_a_get(acme: Acme, closure: list[Member]) -> None:
    place = nar_url(acme, closure[0])
    get, head = acme.ask("GET", place), acme.ask("HEAD", place)
    assert (head.status, head.body) == (200, b"")
    for name in ("content-length", "etag", "accept-ranges", "content-type", "cache-control"):
        assert head.headers[name] == get.headers[name]


def test_a_listing_is_made_by_the_hub(acme: Acme, closure: list[Member]) -> None:
    place = f"{acme.cache}/{closure[0].path.hash_part}.ls"
    plain = acme.ask("GET", place)
    root = plain.json()["root"]
    assert plain.json()["version"] == 1
    assert (root["type"], root["size"]) == ("regular", 1000)
    packed = acme.ask("GET", place, headers={"Accept-Encoding": "gzip, zstd"})
    assert packed.headers["content-encoding"] == "zstd"
    assert zstd.decompress(packed.body) == plain.body
    assert acme.ask("GET", place, headers={"Accept-Encoding": "zstd;q=0"}).body == plain.body


def test_a_manifest_and_where_its_bytes_are(acme: Acme, closure: list[Member]) -> None:
    digest = acme.resolve("1").json()["manifest"].removeprefix("sha256:")
    plain = acme.ask("GET", f"{acme.cache}/manifest/{digest}")
    packed = acme.ask("GET", f"{acme.cache}/manifest/{digest}", headers={"Accept-Encoding": "zstd"})
    assert zstd.decompress(packed.body) == plain.body
    assert "immutable" in plain.headers["cache-control"]
    sources = acme.ask("GET", f"{acme.cache}/manifest/{digest}/sources").json()
    assert [each["url"] for each in sources["sources"]] == [
        f"nar/{each.nar_hash.base32}.nar.zst" for each in closure
    ]
    assert all(each["signatures"] and each["compression"] == "zstd" for each in sources["sources"])
    assert acme.ask("GET", f"{acme.cache}/manifest/{'0' * 64}").status == 404
    assert acme.ask("GET", f"{acme.cache}/manifest/..%2F..%2Fx").status == 404


def test_a_closure_token_reads_its_closure_and_nothing_else(acme: Acme, closure: list[Member]) -> None:
    other = chain("other", content=b"other")
    filling = acme.open("1.1.0")
    both = {ATTRIBUTE: closure[-1], "packages.x": other[-1]}
    filling.declare([*closure, *other], both)
    filling.upload_missing(other)
    filling.source()
    assert filling.finish().status == 200
    resolved = acme.resolve("=1.1.0").json()
    token = resolved["token"]
    foreign = acme.resolve("=1.1.0", "packages.x").json()["manifest"][7:]
    manifest = f"{acme.cache}/manifest/{resolved['manifest'][7:]}"
    for place in ("", acme.cache):
        for path in closure:
            for name in (f"{path.path.hash_part}.narinfo", f"{path.path.hash_part}.ls"):
                assert acme.ask("GET", f"{place}/{name}", token=token).status == 200
            assert acme.ask("GET", nar_url(acme, path), token=token).status == 200
        for path in other:
            for name in (
                f"{path.path.hash_part}.narinfo",
                f"{path.path.hash_part}.ls",
                f"nar/{path.nar_hash.base32}.nar.zst",
            ):
                assert acme.ask("GET", f"{place}/{name}", token=token).status == 404
    assert acme.ask("GET", manifest, token=token).status == 200
    assert acme.ask("GET", f"{manifest}/sources", token=token).status == 200
    for place in (
        f"{acme.cache}/manifest/{foreign}",
        f"{acme.cache}/log/{closure[0].path.base_name}.drv",
        f"{acme.base}/releases",
        f"{acme.base}/releases/1/source",
        f"/f/{acme.organization}/web/1",
    ):
        assert acme.ask("GET", place, token=token).status in (403, 404), place


def test_the_root_is_the_union_of_what_the_reader_may_read(acme: Acme, closure: list[Member]) -> None:
    name = f"/{closure[0].path.hash_part}.narinfo"
    nar = f"/nar/{closure[0].nar_hash.base32}.nar.zst"
    assert acme.ask("GET", name).status == acme.ask("GET", nar).status == 200
    assert acme.hub.request("GET", name).status == acme.hub.request("GET", nar).status == 404
    stranger = Acme(acme.hub)
    assert stranger.ask("GET", name).status == 404
    acme.hub.as_admin("PATCH", acme.base, json={"visibility": "unlisted"})
    assert acme.hub.request("GET", name).status == 404
    assert acme.hub.request("GET", acme.cache + name).status == 200
    acme.hub.as_admin("PATCH", acme.base, json={"visibility": "public"})
    public = acme.hub.request("GET", nar)
    assert public.headers["cache-control"].startswith("public")
    assert acme.hub.request("GET", name).status == 200


def test_the_root_has_nothing_where_two_readable_projects_disagree(acme: Acme) -> None:
    one, two = member("app", "disagree", b"one"), member("app", "disagree", b"two")
    stranger = Acme(acme.hub)
    for who, path in ((acme, one), (stranger, two)):
        who.publish("1.0.0", [path])
        acme.hub.as_admin("PATCH", who.base, json={"visibility": "public"})
    name = f"/{one.path.hash_part}.narinfo"
    assert acme.hub.request("GET", name).status == 404
    for who, path in ((acme, one), (stranger, two)):
        text = acme.hub.request("GET", who.cache + name).body.decode()
        assert path.nar_hash.nix32() in text
    acme.hub.as_admin("PATCH", stranger.base, json={"visibility": "private"})
    assert one.nar_hash.nix32() in acme.hub.request("GET", name).body.decode()


def test_the_root_passes_on_everybodys_signatures(acme: Acme) -> None:
    one = member("app", "signatures")
    stranger = Acme(acme.hub)
    for who in (acme, stranger):
        who.publish("1.0.0", [one])
        acme.hub.as_admin("PATCH", who.base, json={"visibility": "public"})
    text = acme.hub.request("GET", f"/{one.path.hash_part}.narinfo").body.decode()
    names = {line.split()[1].partition(":")[0] for line in text.splitlines() if line.startswith("Sig: ")}
    assert names == {f"{who.organization.lower()}-1" for who in (acme, stranger)}


def test_nothing_is_written_through_the_root(acme: Acme, closure: list[Member]) -> None:
    name = f"/{closure[0].path.hash_part}.narinfo"
    assert acme.ask("PUT", name, body=b"x").status == 405


def test_resources_that_the_hub_does_not_have_are_plainly_missing(acme: Acme) -> None:
    for name in ("realisations/sha256:00!out.doi", "build-trace-v2/x/out.doi", "debuginfo/" + "0" * 40):
        answer = acme.ask("GET", f"{acme.cache}/{name}")
        assert (answer.status, answer.ref) == (404, "not-found")


def test_a_build_log_is_kept_and_needs_its_own_permission(acme: Acme, closure: list[Member]) -> None:
    name = f"{acme.cache}/log/{closure[0].path.base_name}.drv"
    log = b"building\n" * 100_000
    assert acme.ask("GET", name).status == 404
    assert acme.ask("PUT", name, body=log).status == 201
    answer = acme.ask("GET", name)
    assert answer.body == log
    assert answer.headers["content-type"].startswith("text/plain")
    packed = acme.ask("GET", name, headers={"Accept-Encoding": "zstd"})
    assert zstd.decompress(packed.body) == log
    again = zstd.compress(b"another")
    assert acme.ask("PUT", name, body=again, headers={"Content-Encoding": "zstd"}).status == 201
    assert acme.ask("GET", name).body == b"another"
    assert acme.ask("PUT", name, body=b"x", headers={"Content-Encoding": "gzip"}).status == 400
    assert acme.ask("PUT", f"{acme.cache}/log/..%2Fx", body=b"x").status == 404
    assert acme.hub.request("GET", name).status == 404
    acme.hub.as_admin("PATCH", acme.base, json={"visibility": "unlisted"})
    assert acme.hub.request("GET", f"{acme.cache}/{closure[0].path.hash_part}.narinfo").status == 200
    assert acme.hub.request("GET", name).status == 401


def test_a_log_of_zeros_without_end_is_stopped(acme: Acme) -> None:
    place = f"{acme.cache}/log/{'0' * 32}-x.drv"
    bomb = zstd.compress(bytes(65 << 20))
    answer = acme.ask("PUT", place, body=bomb, headers={"Content-Encoding": "zstd"})
    assert (answer.status, answer.ref) == (413, "body-too-large")


def test_an_unknown_project_and_an_invisible_one_answer_alike(acme: Acme, closure: list[Member]) -> None:
    stranger = Acme(acme.hub)
    name = f"{closure[0].path.hash_part}.narinfo"
    answers = [
        stranger.ask("GET", f"/cache/{place}/{name}").json()
        for place in (f"{acme.organization}/web", f"{acme.organization}/none", "nobody/web")
    ]
    for answer in answers:
        del answer["error"]["request_id"]
    assert len({json.dumps(answer) for answer in answers}) == 1
