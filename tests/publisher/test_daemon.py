"""The conversation with Nix's daemon, in each supported version of it."""

import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from piste.lib.errors import PisteError
from piste.nix.closure import topological_order
from piste.nix.narinfo import PathInfo
from piste.nix.signature import SecretKey
from piste.nix.store_path import StorePath
from piste.nixcmd import command
from piste.nixcmd.daemon import Daemon
from piste.nixcmd.store import Store
from tests.running.closures import make_closure, new_path
from tests.running.command import Person
from tests.running.nix import nix_of

KEY = SecretKey.generate("test-1")


@pytest.fixture(params=["forky", "trixie", "bookworm"])
def nix(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """One version of Nix first on PATH."""
    folder = nix_of(request.param)
    if folder is None:
        pytest.skip(f"the Nix of {request.param} is not set up")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    command.version.cache_clear()
    yield folder
    command.version.cache_clear()


@pytest.fixture
def store(nix: Path, tmp_path: Path) -> Store:
    return Store.parse(f"local?root={tmp_path}/store")


def signed(count: int = 4) -> list[tuple[PathInfo, list[bytes]]]:
    items = []
    for member in make_closure(7, paths=count, size=300_000):
        info = PathInfo(member.path, member.nar_hash, len(member.nar), member.references)
        items.append((info.with_signatures([KEY.sign(info.fingerprint())]), [member.nar]))
    return items


def test_what_is_imported_comes_out_again_byte_by_byte(store: Store) -> None:
    items = signed()
    with Daemon(store, {"extra-trusted-public-keys": str(KEY.public)}) as daemon:
        daemon.add_multiple(len(items), items)
        infos = daemon.closure([items[-1][0].path])
        assert set(infos) == {info.path for info, _ in items}
        for info, nar in items:
            assert infos[info.path].fingerprint() == info.fingerprint()
            assert infos[info.path].signatures == info.signatures
            digest = hashlib.sha256()
            for piece in daemon.nar_from_path(info.path):
                digest.update(piece)
            assert digest.digest() == hashlib.sha256(nar[0]).digest()
        daemon.add_temp_roots(infos)
        order = topological_order({path: found.references for path, found in infos.items()}, infos)
        assert order.index(items[0][0].path) < order.index(items[-1][0].path)


def test_a_key_that_nobody_trusts_is_refused_and_the_connection_goes_on(store: Store) -> None:
    items = signed()
    with Daemon(store) as daemon:
        with pytest.raises(PisteError) as caught:
            daemon.add_multiple(len(items), items)
        assert caught.value.ref == "store-refused"
        assert "trusted-public-keys" in (caught.value.hint or "")
        assert daemon.query_valid_paths([info.path for info, _ in items]) == set()
        daemon.add_multiple(len(items), items, check_signatures=False)
        assert len(daemon.query_valid_paths([info.path for info, _ in items])) == len(items)


def test_other_bytes_than_promised_are_refused_by_nix(store: Store) -> None:
    (info, nar), *_ = signed()
    wrong = nar[0][:500] + bytes([nar[0][500] ^ 1]) + nar[0][501:]
    with Daemon(store, {"extra-trusted-public-keys": str(KEY.public)}) as daemon:
        with pytest.raises(PisteError) as caught:
            daemon.add_multiple(1, [(info, [wrong])])
        assert caught.value.ref == "store-refused"
    with Daemon(store) as daemon:
        assert daemon.query_path_info(info.path) is None


def test_many_questions_are_asked_at_once(store: Store) -> None:
    paths = [new_path("absent", number) for number in range(1000)]
    with Daemon(store) as daemon:
        assert list(daemon.query_path_infos(paths)) == [None] * 1000
        with pytest.raises(PisteError) as caught:
            daemon.closure(paths[:1])
    assert caught.value.ref == "path-not-valid"


def test_what_nix_has_built_is_read_as_nix_dumps_it(nix: Path, tmp_path: Path) -> None:
    person = Person(tmp_path / "person", nix=nix)
    path = _added(person)
    with Daemon(Store.parse(person.store)) as daemon:
        data = b"".join(daemon.nar_from_path(StorePath.parse(path)))
    dumped = subprocess.run(
        ["nix-store", "--dump", str(person.root / path.lstrip("/"))],
        env=person.environment,
        capture_output=True,
        check=True,
    )
    assert data == dumped.stdout


def _added(person: Person) -> str:
    folder = person.folder / "added"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "file").write_text("content")
    (folder / "link").symlink_to("inner/file")
    (folder / "tool").write_text("#!/bin/sh\n")
    (folder / "tool").chmod(0o755)
    return person.run("nix-store", "--add", str(folder)).stdout.strip()


def test_a_store_that_is_not_there_is_named(nix: Path) -> None:
    with pytest.raises(PisteError) as caught:
        Daemon(Store.parse("unix:///nonexistent/socket"))
    assert caught.value.ref == "store-unreachable"
    assert "/nonexistent/socket" in caught.value.message


def test_without_nix_the_error_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PisteError) as caught:
        Daemon(Store.parse(f"local?root={tmp_path}"))
    assert caught.value.ref == "nix-missing"


@pytest.mark.parametrize("text", ["s3://bucket", "https://example.org", "local?root=relative", "nonsense"])
def test_what_no_system_can_run_from_is_no_store(text: str) -> None:
    with pytest.raises(PisteError) as caught:
        Store.parse(text)
    assert caught.value.ref == "bad-store"


def test_a_chroot_store_leaves_the_machines_own_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store.parse("local?root=/srv/host")
    assert str(store.real_path("/nix/store/x")) == "/srv/host/nix/store/x"
    expected = {"NIX_REMOTE": "local?root=/srv/host", "NIX_STATE_DIR": "/srv/host/nix/var/nix"}
    assert store.environment == expected
    assert Store.parse("/srv/host").root == store.root
    monkeypatch.setenv("NIX_REMOTE", "local?root=/srv/host")
    assert Store.parse("auto") == store


def test_settings_are_added_to_those_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIX_CONFIG", "cores = 1")
    assert command.configuration({"a": "b"}) == {"NIX_CONFIG": "cores = 1\na = b\n"}
    with pytest.raises(ValueError, match="line end"):
        command.configuration({"a": "b\nc = d"})
