"""The daemon's protocol with real daemons: 1.34 (Nix 2.8), and the newest of 2.26 and 2.34."""

import subprocess
from collections.abc import Callable, Iterator
from typing import IO

import pytest

from piste.nix import worker_protocol as wp
from piste.nix.content_address import ContentAddress
from piste.nix.hashes import sha256_of
from piste.nix.nar import NarParser
from piste.nix.narinfo import PathInfo
from piste.nix.signature import SecretKey
from piste.nix.store_path import StorePath
from piste.nix.worker_protocol import DaemonError
from tests.unit.nix.conftest import RealNix
from tests.unit.nix.trees import EXAMPLE, Tree, nar_of


class Client:
    """The least that speaks: bytes written to the daemon, bytes read from it."""

    def __init__(self, process: subprocess.Popen[bytes], newest: wp.Version = wp.NEWEST) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._to: IO[bytes] = process.stdin
        self.source: IO[bytes] = process.stdout
        self._send(wp.client_hello(newest))
        self.version = wp.read_server_hello(self.source, newest)
        if wp.has_features(self.version):
            self._send(wp.pack_strings([]))
            self.features = wp.read_strings(self.source)
        self._send(wp.client_hello_end())
        self.server = wp.read_server_info(self.source, self.version)
        wp.read_stderr_until_last(self.source)

    def _send(self, data: bytes) -> None:
        self._to.write(data)
        self._to.flush()

    def call(self, request: bytes) -> IO[bytes]:
        """Sends a request; the result stands next in the source."""
        self._send(request)
        wp.read_stderr_until_last(self.source)
        return self.source

    def add(self, items: list[tuple[PathInfo, bytes]], frame: int = 5000) -> None:
        body = wp.pack_u64(len(items)) + b"".join(wp.pack_item_head(info) + nar for info, nar in items)
        pieces = [body[at : at + frame] for at in range(0, len(body), frame)]
        frames = b"".join(wp.frame_head(len(piece)) + piece for piece in pieces)
        self.call(wp.add_multiple_to_store(check_signatures=False) + frames + wp.END_OF_FRAMES)


@pytest.fixture
def connect(nix: RealNix) -> Iterator[Callable[..., Client]]:
    processes: list[subprocess.Popen[bytes]] = []

    def connect(newest: wp.Version = wp.NEWEST) -> Client:
        processes.append(nix.daemon())
        return Client(processes[-1], newest)

    yield connect
    for process in processes:
        process.kill()
        process.communicate()


def item(hash_part: str, name: str, tree: Tree, *references: StorePath) -> tuple[PathInfo, bytes]:
    nar = nar_of(tree)
    return PathInfo(StorePath(hash_part * 32, name), sha256_of(nar), len(nar), references), nar


LOWER = item("1", "lower", EXAMPLE)
UPPER = item("2", "upper", {b"way": str(LOWER[0].path).encode()}, LOWER[0].path, StorePath("2" * 32, "upper"))


def test_the_handshake_tells_version_and_trust(nix: RealNix, connect: Callable[..., Client]) -> None:
    client = connect()
    told = nix.run("nix", "--version").decode().split()[-1]
    assert client.server.nix_version == told
    assert client.version == ((1, 34) if told.startswith("2.8") else (1, 38))
    assert client.server.trust is (wp.Trust.UNKNOWN if client.version < (1, 35) else wp.Trust.TRUSTED)


def test_an_older_client_is_understood(connect: Callable[..., Client]) -> None:
    for version in ((1, 34), (1, 35), (1, 37)):
        client = connect(version)
        assert client.version <= version
        assert not wp.read_bool(client.call(wp.is_valid_path(LOWER[0].path)))


@pytest.mark.parametrize("frame", [1, 8, 100_000])
def test_a_closure_goes_in_and_comes_out(connect: Callable[..., Client], frame: int) -> None:
    client = connect()
    client.call(wp.set_options(settings=[("build-timeout", "10")]))
    client.add([LOWER, UPPER], frame)
    paths = [info.path for info, _ in (LOWER, UPPER)]
    asked = [*paths, StorePath("3" * 32, "missing")]
    assert sorted(wp.read_strings(client.call(wp.query_valid_paths(asked)))) == sorted(map(str, paths))
    for info, nar in (LOWER, UPPER):
        registered = wp.read_optional_path_info(client.call(wp.query_path_info(info.path)), info.path)
        assert registered is not None
        assert registered.info == info
        assert not registered.ultimate
        assert registered.registration_time > 0
        assert wp.read_string(client.call(wp.query_path_from_hash_part(info.path.hash_part))) == str(
            info.path
        )
        assert read_nar(client.call(wp.nar_from_path(info.path))) == nar
        assert wp.read_u64(client.call(wp.add_temp_root(info.path))) == 1


def read_nar(source: IO[bytes]) -> bytes:
    """The parser tells where the stream ends; byte by byte, so that nothing is read beyond."""
    parser, nar = NarParser(), b""
    while not parser.done:
        nar += source.read(1)
        parser.feed(nar[-1:])
    parser.finish()
    return nar


def test_signatures_can_be_added(connect: Callable[..., Client]) -> None:
    client = connect()
    client.add([LOWER])
    info = LOWER[0]
    signature = SecretKey.generate("test-1").sign(info.fingerprint())
    assert wp.read_u64(client.call(wp.add_signatures(info.path, [signature]))) == 1
    registered = wp.read_optional_path_info(client.call(wp.query_path_info(info.path)), info.path)
    assert registered is not None
    assert registered.info.signatures == (signature,)


def test_content_is_addressed_as_the_daemon_does(connect: Callable[..., Client]) -> None:
    nar = nar_of(EXAMPLE)
    address = ContentAddress("nar", sha256_of(nar))
    info = PathInfo(address.store_path("content"), sha256_of(nar), len(nar), ca=str(address))
    client = connect()
    request = wp.add_to_store_nar(info, check_signatures=True)
    client.call(request + wp.frame_head(len(nar)) + nar + wp.END_OF_FRAMES)
    registered = wp.read_optional_path_info(client.call(wp.query_path_info(info.path)), info.path)
    assert registered is not None
    assert registered.info == info


def test_a_refusal_is_told_in_the_words_of_the_daemon(connect: Callable[..., Client]) -> None:
    client = connect()
    missing = StorePath("3" * 32, "missing")
    assert wp.read_optional_path_info(client.call(wp.query_path_info(missing)), missing) is None
    with pytest.raises(DaemonError, match="missing"):
        client.call(wp.pack_u64(wp.Op.ENSURE_PATH) + wp.pack_string(str(missing)))
    assert not wp.read_bool(client.call(wp.is_valid_path(missing)))
    lying = PathInfo(StorePath("4" * 32, "lie"), sha256_of(b"other"), len(LOWER[1]))
    with pytest.raises(DaemonError, match="mismatch"):
        client.add([(lying, LOWER[1])])
    with pytest.raises(DaemonError, match="not valid"):
        connect().add([UPPER])
