"""What stock clients push is verified like Piste's own uploads; unmodified Nix pushes to the hub and
substitutes from it.
"""

import bz2
import gzip
import lzma
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from piste.lib.decompress import decompressor
from piste.lib.zstd import zstd
from piste.nix.base32 import encode
from piste.nix.hashes import sha256_of
from piste.nix.narinfo import NarInfo, PathInfo, format_narinfo, parse_narinfo
from tests.hub.process import Answer, Hub
from tests.hub.publishing import Acme, chain, stored_files
from tests.running.closures import Member, member

NIX = Path(__file__).parents[2] / ".cache/nix/bin/nix"
COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".xz": lzma.compress,
    ".bz2": bz2.compress,
    ".gz": gzip.compress,
    ".zst": zstd.compress,
}
NAMES = {"": "none", ".xz": "xz", ".bz2": "bzip2", ".gz": "gzip", ".zst": "zstd"}


@pytest.fixture
def acme(shared_hub: Hub) -> Acme:
    return Acme(shared_hub)


def unpacked(data: bytes, compression: str) -> bytes:
    plain = decompressor(compression)
    whole = b"".join(plain.feed(data))
    plain.finish()
    return whole


def put_nar(acme: Acme, path: Member, suffix: str = ".xz") -> tuple[Answer, str]:
    """As a stock client does it; the answer and the address that the NAR has then."""
    packed = COMPRESSORS[suffix](path.nar)
    url = f"nar/{sha256_of(packed).base32}.nar{suffix}"
    return acme.ask("PUT", f"{acme.cache}/{url}", body=packed), url


def narinfo(path: Member, url: str, suffix: str = ".xz", references: Sequence[Member] | None = None) -> str:
    names = path.references if references is None else tuple(each.path for each in references)
    info = PathInfo(path.path, path.nar_hash, len(path.nar), names)
    return format_narinfo(NarInfo(info, url, NAMES[suffix], None, None))


def put_narinfo(acme: Acme, path: Member, text: str) -> Answer:
    return acme.ask("PUT", f"{acme.cache}/{path.path.hash_part}.narinfo", body=text.encode())


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_a_path_is_pushed_in_any_compression_and_served_as_zstd(acme: Acme, suffix: str) -> None:
    path = member("app", suffix, b"pushed " * 50_000)
    packed = COMPRESSORS[suffix](path.nar)
    url = f"nar/{sha256_of(packed).base32}.nar{suffix}"
    assert acme.ask("HEAD", f"{acme.cache}/{url}").status == 404
    assert put_nar(acme, path, suffix)[0].status == 201
    assert acme.ask("HEAD", f"{acme.cache}/{url}").status == 200
    assert acme.ask("GET", f"{acme.cache}/{url}").status == 404
    assert acme.narinfo(path).status == 404
    assert put_narinfo(acme, path, narinfo(path, url, suffix)).status == 201
    served = parse_narinfo(acme.narinfo(path).body.decode())
    assert zstd.decompress(acme.ask("GET", f"{acme.cache}/{served.url}").body) == path.nar
    # A client that pushed it remembers the address that it gave the NAR.
    again = acme.ask("GET", f"{acme.cache}/{url}").body
    assert unpacked(again, NAMES[suffix]) == path.nar


def test_a_nar_that_was_not_described_is_nobody_elses(acme: Acme) -> None:
    path = member("app", "mine", os.urandom(100))
    _, url = put_nar(acme, path)
    stranger = Acme(acme.hub)
    assert stranger.ask("HEAD", f"{stranger.cache}/{url}").status == 404
    answer = put_narinfo(stranger, path, narinfo(path, url))
    assert (answer.status, answer.ref) == (422, "bad-path-info")
    own = f"nar/{path.nar_hash.base32}.nar.zst"
    assert put_narinfo(stranger, path, narinfo(path, own, ".zst")).ref == "bad-path-info"


def test_what_is_pushed_must_be_a_nar(acme: Acme) -> None:
    for data in (b"no NAR at all", lzma.compress(b"no NAR"), lzma.compress(member("a", 1).nar)[:-9]):
        url = f"{acme.cache}/nar/{sha256_of(data).base32}.nar.xz"
        assert acme.ask("PUT", url, body=data).ref == "bad-nar"
        assert acme.ask("HEAD", url).status == 404
    assert stored_files(acme.hub, "spool") == []
    for name in ("x.nar.xz", "..%2Fx.nar", "0" * 52 + ".nar.xz%2F.."):
        assert acme.ask("PUT", f"{acme.cache}/nar/{name}", body=b"").ref == "bad-name"
    refused = acme.ask("PUT", f"{acme.cache}/nar/{'0' * 52}.nar.br", body=b"x")
    assert refused.ref == "bad-nar"
    assert "zstd" in refused.json()["error"]["hint"]


def test_a_narinfo_that_does_not_fit_its_nar_is_refused(acme: Acme) -> None:
    path = member("app", "fit", os.urandom(100))
    _, url = put_nar(acme, path)
    right = narinfo(path, url)
    other = sha256_of(b"other").nix32()
    assert put_narinfo(acme, path, right.replace(path.nar_hash.nix32(), other)).ref == "nar-mismatch"
    assert put_narinfo(acme, path, right.replace("NarSize: ", "NarSize: 1")).ref == "nar-mismatch"
    assert put_narinfo(acme, path, right.replace(url, f"../{url}")).ref == "bad-path-info"
    assert put_narinfo(acme, path, right[:-20]).ref == "bad-path-info"
    assert put_narinfo(acme, path, "").ref == "bad-path-info"
    elsewhere = f"{acme.cache}/{encode(bytes(20))}.narinfo"
    assert acme.ask("PUT", elsewhere, body=right.encode()).ref == "bad-path-info"
    assert acme.narinfo(path).status == 404


def test_references_must_be_there_and_be_declared(acme: Acme) -> None:
    first, second = chain("app", 2)
    for path in (first, second):
        put_nar(acme, path)
    urls = [put_nar(acme, path)[1] for path in (first, second)]
    missing = put_narinfo(acme, second, narinfo(second, urls[1]))
    assert missing.ref == "bad-path-info"
    assert first.path.base_name in missing.json()["error"]["context"]["missing"]
    assert put_narinfo(acme, first, narinfo(first, urls[0])).status == 201
    undeclared = put_narinfo(acme, second, narinfo(second, urls[1], references=[]))
    assert undeclared.ref == "undeclared-reference"
    assert put_narinfo(acme, second, narinfo(second, urls[1])).status == 201


def test_other_content_under_a_path_of_the_organization_is_refused(acme: Acme) -> None:
    one, two = member("app", "same", b"one"), member("app", "same", b"two")
    urls = [put_nar(acme, path)[1] for path in (one, two)]
    assert put_narinfo(acme, one, narinfo(one, urls[0])).status == 201
    assert put_narinfo(acme, one, narinfo(one, urls[0])).status == 201
    answer = put_narinfo(acme, two, narinfo(two, urls[1]))
    assert (answer.status, answer.ref) == (409, "path-conflict")
    assert one.nar_hash.nix32() in acme.narinfo(one).body.decode()


def test_who_may_only_read_pushes_nothing(acme: Acme) -> None:
    acme.hub.as_admin("PATCH", acme.base, json={"visibility": "public"})
    place = f"{acme.cache}/nar/{'0' * 52}.nar.xz"
    assert acme.hub.request("PUT", place, body=b"x").status == 401
    assert Acme(acme.hub).ask("PUT", place, body=b"x").status == 403


def write_file_cache(folder: Path, closure: Sequence[Member]) -> str:
    """The closure as a cache in a folder, as other tools make them."""
    (folder / "nar").mkdir(parents=True)
    (folder / "nix-cache-info").write_text("StoreDir: /nix/store\n")
    for path in closure:
        url = f"nar/{path.nar_hash.base32}.nar"
        (folder / url).write_bytes(path.nar)
        (folder / f"{path.path.hash_part}.narinfo").write_text(narinfo(path, url, ""))
    return f"file://{folder}"


class Client:
    """Real Nix with a home and a store of its own."""

    def __init__(self, folder: Path, acme: Acme, token: str | None) -> None:
        self.root = folder / "root"
        home = folder / "home"
        home.mkdir(parents=True)
        netrc = folder / "netrc"
        netrc.write_text(f"machine 127.0.0.1 login any password {token}\n" if token else "")
        keys = acme.hub.as_admin("GET", f"/api/v1/organizations/{acme.organization}")["public_keys"]
        config = {
            "netrc-file": netrc,
            "trusted-public-keys": " ".join(keys),
            "substituters": "",
            "build-users-group": "",
            "experimental-features": "nix-command",
        }
        self.environment = {
            "HOME": str(home),
            "PATH": os.environ["PATH"],
            "NIX_REMOTE": f"local?root={self.root}",
            "NIX_STATE_DIR": f"{self.root}/nix/var/nix",
            "NIX_USER_CONF_FILES": "",
            "NIX_CONFIG": "\n".join(f"{name} = {value}" for name, value in config.items()),
        }

    def nix(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [NIX, *arguments], env=self.environment, capture_output=True, text=True, timeout=120
        )

    def content(self, path: Member) -> bytes:
        return (self.root / str(path.path).lstrip("/")).read_bytes()


@pytest.mark.skipif(not NIX.exists(), reason="needs the portable Nix of `make setup`")
@pytest.mark.parametrize("options", ["", "?compression=zstd&parallel-compression=true", "?compression=none"])
def test_unmodified_nix_pushes_a_closure_and_substitutes_it(acme: Acme, tmp_path: Path, options: str) -> None:
    closure = chain("app", 5, os.urandom(300_000))
    source = write_file_cache(tmp_path / "cache", closure)
    address = f"{acme.hub.url}{acme.cache}"
    pusher = Client(tmp_path / "pusher", acme, acme.member)
    pushed = pusher.nix("copy", "--from", source, "--to", address + options, str(closure[-1].path))
    assert pushed.returncode == 0, pushed.stderr
    assert [acme.narinfo(path).status for path in closure] == [200] * 5
    reader = Client(tmp_path / "reader", acme, acme.member)
    # The pusher remembers what it said itself: unsigned, and with its own addresses of the NARs.
    for client, checked in ((reader, []), (pusher, ["--no-check-sigs"])):
        store = f"local?root={client.root}"
        got = client.nix("copy", "--from", address, "--to", store, *checked, str(closure[-1].path))
        assert got.returncode == 0, got.stderr
        assert client.content(closure[-1]) in closure[-1].nar
    nobody = Client(tmp_path / "nobody", acme, None)
    refused = nobody.nix(
        "copy", "--from", address, "--to", f"local?root={nobody.root}", str(closure[-1].path)
    )
    assert refused.returncode != 0


@pytest.mark.skipif(not NIX.exists(), reason="needs the portable Nix of `make setup`")
def test_unmodified_nix_reads_a_published_closure_by_its_closure_token(acme: Acme, tmp_path: Path) -> None:
    closure = chain("app", 3, os.urandom(300_000))
    acme.publish("1.0.0", closure)
    client = Client(tmp_path, acme, acme.resolve("1").json()["token"])
    for address in (acme.hub.url, f"{acme.hub.url}{acme.cache}"):
        got = client.nix(
            "copy", "--from", address, "--to", f"local?root={client.root}", str(closure[-1].path)
        )
        assert got.returncode == 0, got.stderr
        listed = client.nix("store", "ls", "--store", address, "--json", str(closure[0].path))
        assert '"type":"regular"' in listed.stdout, listed.stderr
    assert client.content(closure[-1]) in closure[-1].nar
