"""Paths that a trusted upstream holds are pinned, not stored; a word that doesn't hold means an upload like
any other.
"""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from piste.nix.hashes import sha256_of
from piste.nix.narinfo import NarInfo, PathInfo, format_narinfo, parse_narinfo
from piste.nix.signature import SecretKey
from tests.hub.process import Hub
from tests.hub.publishing import Acme, Filling
from tests.running.closures import ATTRIBUTE, Member, member

UPSTREAM = "https://upstream.example/cache"


@pytest.fixture(scope="module")
def key() -> SecretKey:
    return SecretKey.generate("upstream-1")


@pytest.fixture
def acme(shared_hub: Hub, key: SecretKey) -> Acme:
    made = Acme(shared_hub)
    shared_hub.as_admin(
        "POST",
        f"/api/v1/organizations/{made.organization}/upstreams",
        json={"url": UPSTREAM, "public_keys": [str(key.public)]},
    )
    return made


def upstream_narinfo(
    path: Member, key: SecretKey, *, url: str = "nar/abc.nar.xz", nar_size: int | None = None
) -> str:
    info = PathInfo(path.path, path.nar_hash, nar_size or len(path.nar), path.references)
    signed = info.with_signatures([key.sign(info.fingerprint())])
    return format_narinfo(NarInfo(signed, url, "xz", sha256_of(b"file"), 123))


def declare(filling: Filling, path: Member, narinfo: str, *, upstream: str = UPSTREAM) -> Any:
    message = {
        "paths": [
            {
                **msgspec.to_builtins(path.declared),
                "upstream": upstream,
                "upstream_narinfo": narinfo,
            }
        ],
        "outputs": [{"attribute": ATTRIBUTE, "store_path": str(path.path)}],
    }
    return filling.acme.ask("POST", f"{filling.place}/declarations", json=message)


def test_a_pinned_path_is_never_uploaded_and_read_from_its_upstream(acme: Acme, key: SecretKey) -> None:
    path = member("glibc", "pinned")
    filling = acme.open()
    assert filling.opened["upstreams"] == [UPSTREAM]
    answer = declare(filling, path, upstream_narinfo(path, key)).json()
    assert answer == {"missing": [], "present": 0, "pinned": 1}
    filling.source()
    assert filling.finish().status == 200
    narinfo = parse_narinfo(acme.narinfo(path).body.decode())
    assert (narinfo.compression, narinfo.file_size) == ("xz", 123)
    assert len(narinfo.info.signatures) == 2
    moved = acme.ask("GET", f"{acme.cache}/{narinfo.url}")
    assert (moved.status, moved.headers["location"]) == (307, f"{UPSTREAM}/nar/abc.nar.xz")
    assert acme.ask("GET", f"{acme.cache}/nar/{path.nar_hash.base32}.nar.zst").status == 404
    digest = acme.resolve("1").json()["manifest"][7:]
    sources = acme.ask("GET", f"{acme.cache}/manifest/{digest}/sources").json()["sources"]
    assert sources[0]["url"] == f"{UPSTREAM}/nar/abc.nar.xz"
    assert acme.ask("GET", f"{acme.cache}/manifest/{digest}/nars?places=0").status == 404


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text.replace("NarSize: ", "NarSize: 1"),
        lambda text: text.replace("Sig: upstream-1:", "Sig: upstream-2:"),
        lambda text: "\n".join(line for line in text.splitlines() if not line.startswith("Sig")) + "\n",
        lambda text: text.replace("URL: nar/", "URL: ../nar/"),
        lambda text: text.replace("URL: nar/", "URL: https://evil.example/nar/"),
        lambda text: text.replace("URL: nar/", "URL: //evil.example/nar/"),
        lambda text: text.replace("URL: nar/", "URL: nar/%2e%2e/%2e%2e/"),
        lambda text: text[:50],
        lambda text: "",
    ],
)
def test_a_word_that_does_not_hold_means_an_upload(
    acme: Acme, key: SecretKey, spoil: Callable[[str], str]
) -> None:
    path = member("glibc", "spoilt")
    answer = declare(acme.open(), path, spoil(upstream_narinfo(path, key)))
    assert answer.json()["missing"] == [path.path.base_name]


def test_a_key_that_the_organization_does_not_trust_pins_nothing(acme: Acme) -> None:
    path = member("glibc", "untrusted")
    narinfo = upstream_narinfo(path, SecretKey.generate("upstream-1"))
    assert declare(acme.open(), path, narinfo).json()["missing"] == [path.path.base_name]


def test_an_upstream_vouches_for_the_path_that_is_declared_and_no_other(acme: Acme, key: SecretKey) -> None:
    path, other = member("glibc", "one"), member("glibc", "other", b"other")
    assert declare(acme.open(), path, upstream_narinfo(other, key)).json()["pinned"] == 0


def test_an_upstream_that_is_not_the_organizations_is_refused(acme: Acme, key: SecretKey) -> None:
    path = member("glibc", "elsewhere")
    answer = declare(acme.open(), path, upstream_narinfo(path, key), upstream="https://other.example")
    assert (answer.status, answer.ref) == (422, "upstream-not-trusted")
