"""A line that counts what passes to the client, lets through so much a second, and can be cut."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_PIECE = 16 * 1024


class CutLine:
    """A proxy on loopback. `at` holds counts of bytes with what is called once as many have passed."""

    def __init__(self, target: int, speed: float) -> None:
        self.target = target  # a port
        self.passed = 0
        self.at: list[tuple[int, Callable[[], None]]] = []
        self.speed = speed  # bytes a second, of all connections together
        self._free_at = 0.0
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Break every connection that there is now."""
        with self._lock:
            broken, self._open = self._open, set()
        for one in broken:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def run(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _serve(self, near: socket.socket) -> None:
        with near, contextlib.suppress(OSError):
            far = socket.create_connection(("127.0.0.1", self.target), timeout=10)
            far.settimeout(None)
            with far:
                with self._lock:
                    self._open |= {near, far}
                up = threading.Thread(target=_copy, args=(near, far), daemon=True)
                up.start()
                while data := far.recv(_PIECE):
                    self._pass(near, data)
                with contextlib.suppress(OSError):
                    near.shutdown(socket.SHUT_RDWR)
                up.join()

    def _pass(self, near: socket.socket, data: bytes) -> None:
        with self._lock:
            now = time.monotonic()
            self._free_at = max(self._free_at, now) + len(data) / self.speed
            wait = self._free_at - now
        time.sleep(wait)
        near.sendall(data)
        with self._lock:
            self.passed += len(data)
            due = self.at.pop(0)[1] if self.at and self.at[0][0] <= self.passed else None
        if due is not None:
            due()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(_PIECE):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)


@contextmanager
def cut_line(target: int, speed: float) -> Iterator[CutLine]:
    """The line, for as long as the block lasts."""
    line = CutLine(target, speed)
    threading.Thread(target=line.run, daemon=True).start()
    try:
        yield line
    finally:
        line.close()
