"""A conversation with Nix's daemon over `nix-daemon --stdio`: path infos, NARs out, NARs in.

The checks stay Nix's: signatures and hashes of what comes in are verified by the daemon itself, as the store
is configured, unless the caller says otherwise and is trusted. Blocking, and for one thread at a time.
"""

import contextlib
import fcntl
import os
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from io import BufferedReader
from itertools import islice
from pathlib import Path
from typing import IO, Final, Self, cast

from piste.lib.errors import PisteError
from piste.nix import worker_protocol as protocol
from piste.nix.nar import NarError, NarParser
from piste.nix.narinfo import PathInfo
from piste.nix.store_path import StorePath
from piste.nixcmd import command
from piste.nixcmd.store import Store

Item = tuple[PathInfo, Iterable[bytes]]

# Requests under way at once. Their bytes must fit into a pipe (64 KiB) with room to spare, or both
# sides would wait for each other: 128 requests of up to 270 bytes take 34 KiB.
_AHEAD: Final = 128
_PIECE: Final = 256 * 1024
_FRAME: Final = 64 * 1024  # small pieces are gathered up to this
_PIPE: Final = 1 << 20  # the most that Linux gives an ordinary user; pieces then pass in fewer turns
_COLOURS: Final = re.compile(r"\x1b\[[0-9;]*m")  # which a daemon sends whatever its output is
_FAREWELL: Final = 5.0  # seconds until a daemon that was told goodbye is ended


class StoreRefusedError(PisteError):
    """Nix refused an operation; the message is its own."""

    def __init__(self, message: str) -> None:
        text = _COLOURS.sub("", message).strip().removeprefix("error: ")
        hint = None
        if "signature" in text:
            hint = (
                "The store trusts none of the path's signatures: "
                "trusted-public-keys must hold the organization's key."
            )
        super().__init__("store-refused", f"Nix refused: {text}", hint=hint)


def disk_is_full(said: str) -> bool:
    """Whether Nix, or the database that it keeps, speaks of a disk without room."""
    return any(text in said for text in ("No space left on device", "Disk quota exceeded", "disk is full"))


def damaged(path: StorePath) -> PisteError:
    """The error for a path whose files are not what they were when Nix took them in."""
    return PisteError(
        "path-damaged",
        f"{path} is damaged in the Nix store: its files were changed or removed since it was made.",
        hint="`nix-store --verify --check-contents --repair` looks at the whole store and mends it;"
        " `nix-store --delete` of the path lets it be built anew.",
    )


class Daemon:
    """One connection; use it in a `with` block. Paths that pass through it are kept from the garbage
    collector until it is closed."""

    def __init__(self, store: Store, settings: Mapping[str, str] | None = None) -> None:
        self.store = store
        argv = ["nix-daemon", "--stdio", "--store", store.url]
        self._child = command.spawn(store, argv, settings)
        self._source = cast(BufferedReader, self._child.stdout)
        self._sink: IO[bytes] = self._child.stdin
        for pipe in (self._source, self._sink):
            _widen(pipe)
        try:
            self.server = self._greet(settings or {})
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Say goodbye by closing the pipe, and wait for the daemon to go."""
        with contextlib.suppress(OSError):  # it may have gone already
            self._sink.close()
        self._child.wait(_FAREWELL)
        self._child.close()

    # what the store holds

    def query_path_info(self, path: StorePath) -> PathInfo | None:
        """All that the store knows of `path`; None if it is not valid."""
        return next(self.query_path_infos([path]))

    def query_path_infos(self, paths: Iterable[StorePath]) -> Iterator[PathInfo | None]:
        """The same for many paths, in their order, without waiting for each answer."""
        remaining = iter(paths)
        while batch := list(islice(remaining, _AHEAD)):
            self._send(b"".join(map(protocol.query_path_info, batch)))
            for path in batch:
                with self._listening():
                    protocol.read_stderr_until_last(self._source)
                    registered = protocol.read_optional_path_info(self._source, path)
                yield registered.info if registered else None

    def query_valid_paths(self, paths: Iterable[StorePath], *, substitute: bool = False) -> set[StorePath]:
        """Those of `paths` that are valid; with `substitute`, Nix may fetch what its caches have."""
        self._ask(protocol.query_valid_paths(paths, substitute=substitute))
        with self._listening():
            return {StorePath.parse(text) for text in protocol.read_strings(self._source)}

    def closure(self, roots: Iterable[StorePath]) -> dict[StorePath, PathInfo]:
        """Path infos of everything that `roots` reach; a path that is not valid is an error."""
        infos: dict[StorePath, PathInfo] = {}
        level = list(dict.fromkeys(roots))
        while level:
            reached: dict[StorePath, None] = {}
            for path, info in zip(level, self.query_path_infos(level), strict=True):
                if info is None:
                    raise PisteError(
                        "path-not-valid",
                        f"{path} is not in the Nix store.",
                        hint="Build or fetch it first; `nix-store --verify` finds what a store has lost.",
                    )
                infos[path] = info
                reached.update(dict.fromkeys(info.references))
            level = [path for path in reached if path not in infos]
        return infos

    def nar_from_path(self, path: StorePath) -> Iterator[bytes]:
        """The NAR of a valid path in pieces. Read it to its end before the next operation."""
        self._ask(protocol.nar_from_path(path))
        parser = NarParser()
        while not parser.done:
            with self._listening():
                # Nothing follows the NAR until we ask again, so reading what is there never reads too far.
                piece = self._source.read1(_PIECE)
                if not piece:
                    raise protocol.ProtocolError("the daemon closed the connection in the middle of a NAR")
            try:
                parser.feed(piece)
            except NarError as error:
                # In the middle of a NAR the daemon can't say anything else: it could not read on.
                raise damaged(path) from error
            yield piece

    # what is brought in

    def add_multiple(self, count: int, items: Iterable[Item], *, check_signatures: bool = True) -> None:
        """Import `count` paths, each with the pieces of its NAR, dependencies before what refers to them.

        Each path is valid as soon as its NAR was read and verified. If `items` raises, the connection is of
        no more use, and the paths before it stay.
        """
        self._send(protocol.add_multiple_to_store(check_signatures=check_signatures))
        # The daemon may speak at any time, so somebody listens while we send: otherwise two full pipes
        # would wait for each other.
        listener = _Listener(self._source)
        frames = _Frames(self._sink)
        try:
            frames.write(protocol.pack_u64(count))
            for info, pieces in items:
                frames.write(protocol.pack_item_head(info))
                for piece in pieces:
                    frames.write(piece)
            frames.end()
        except OSError as error:
            raise self._broken(error) from error
        with self._listening():
            listener.result()

    def add_temp_roots(self, paths: Iterable[StorePath]) -> None:
        """Keep paths from the garbage collector while this connection lasts."""
        remaining = iter(paths)
        while batch := list(islice(remaining, _AHEAD)):
            self._send(b"".join(map(protocol.add_temp_root, batch)))
            for _ in batch:
                with self._listening():
                    protocol.read_stderr_until_last(self._source)
                    protocol.read_u64(self._source)

    def add_root(self, path: StorePath, link: Path) -> None:
        """Make `link` (absolute) a root of the garbage collector that points to a valid path."""
        new = link.with_name(f".{link.name}.{os.getpid()}")
        new.unlink(missing_ok=True)
        new.symlink_to(str(path))
        try:
            new.replace(link)
        except OSError:
            new.unlink(missing_ok=True)
            raise
        self._ask(protocol.add_indirect_root(str(link)))
        with self._listening():
            protocol.read_u64(self._source)

    def add_signatures(self, path: StorePath, signatures: Iterable[str]) -> None:
        """Add signatures to a valid path."""
        self._ask(protocol.add_signatures(path, signatures))
        with self._listening():
            protocol.read_u64(self._source)

    # the conversation itself

    def _greet(self, settings: Mapping[str, str]) -> protocol.ServerInfo:
        self._send(protocol.client_hello())
        with self._listening():
            version = protocol.read_server_hello(self._source)
            if protocol.has_features(version):
                self._send(protocol.pack_strings(()))
                protocol.read_strings(self._source)
            self._send(protocol.client_hello_end())
            server = protocol.read_server_info(self._source, version)
            protocol.read_stderr_until_last(self._source)
        # The environment reaches a store that this process opens, the options one behind a socket.
        self._ask(protocol.set_options(settings=settings.items()))
        return server

    def _ask(self, request: bytes) -> None:
        self._send(request)
        with self._listening():
            protocol.read_stderr_until_last(self._source)

    def _send(self, request: bytes) -> None:
        try:
            self._sink.write(request)
            self._sink.flush()
        except OSError as error:
            raise self._broken(error) from error

    def _listening(self) -> "_Translation":
        return _Translation(self)

    def _broken(self, reason: object) -> PisteError:
        """The connection is gone; what the daemon said last tells why."""
        self._child.wait(1)
        said = self._child.stderr.strip().removeprefix("error: ")
        store = self.store.url
        if disk_is_full(said):
            return PisteError(
                "disk-full",
                f"There is no space left for the Nix store {store!r}: {said}",
                hint="Make room, for example with `nix-collect-garbage -d`, and try again.",
            )
        return PisteError(
            "store-unreachable",
            f"The Nix store {store!r} can't be used: {said or reason}",
            hint="Check --store (PISTE_STORE), and that `nix store ping` works for this user.",
        )


class _Translation:
    """Turns what the protocol raises into errors for people."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, protocol.DaemonError):
            raise StoreRefusedError(error.message) from error
        if isinstance(error, protocol.UnknownProtocolError):
            raise PisteError(
                "daemon-unknown",
                f"The Nix daemon of the store {self._daemon.store.url!r} can't be understood: {error}.",
                hint="Versions from 2.8 on are. What this command needs may take a newer piste.",
            ) from error
        if isinstance(error, protocol.ProtocolError | NarError | OSError):
            raise self._daemon._broken(error) from error


class _Listener:
    """Reads the daemon's messages on the side, up to the result of the operation under way."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def result(self) -> None:
        """Wait for the result; raises what the daemon refused with."""
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            protocol.read_stderr_until_last(self._source)
        except (protocol.DaemonError, protocol.ProtocolError, OSError, ValueError) as error:
            self._error = error


class _Frames:
    """The framed stream of an import; small pieces are gathered into one frame."""

    def __init__(self, sink: IO[bytes]) -> None:
        self._sink = sink
        self._gathered = bytearray()

    def write(self, piece: bytes) -> None:
        if len(piece) >= _FRAME:
            self._flush()
            self._sink.write(protocol.frame_head(len(piece)))
            self._sink.write(piece)
            return
        self._gathered += piece
        if len(self._gathered) >= _FRAME:
            self._flush()

    def end(self) -> None:
        self._flush()
        self._sink.write(protocol.END_OF_FRAMES)
        self._sink.flush()

    def _flush(self) -> None:
        if self._gathered:
            self._sink.write(protocol.frame_head(len(self._gathered)))
            self._sink.write(self._gathered)
            self._gathered = bytearray()


def _widen(pipe: IO[bytes]) -> None:
    """Ask for a larger pipe; without one everything works, in more turns."""
    try:
        fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, _PIPE)
    except OSError:
        return
