"""Receives the same files again and again, over several connections, and tells how much came.

    python -m benchmarks._receiver ADDRESS CONNECTIONS SECONDS [discard] < paths

With `discard` the kernel throws bodies away where they arrive (MSG_TRUNC of tcp(7)): they cost whoever
receives them a third of a processor where copying them takes all of it. Prints how many answers came whole,
how many bytes, and seconds.
"""

import os
import re
import socket
import ssl
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import cycle
from typing import Final
from urllib.parse import urlsplit

TOKEN: Final = "BENCH_TOKEN"  # the variable that holds it
_DISCARD: Final = "discard"
_SILENCE: Final = 30.0  # seconds
_HEAD: Final = 2048  # bytes
_ROOM: Final = 1 << 20


def _receive(url: str, requests: Iterator[bytes], until: float, *, discard: bool) -> tuple[int, int]:
    """One connection's part: answers that came whole, and bytes."""
    address = urlsplit(url)
    flags = socket.MSG_TRUNC if discard else 0
    count = size = 0
    with ExitStack() as stack:
        connection = stack.enter_context(socket.create_connection((address.hostname, address.port), _SILENCE))
        if address.scheme == "https":
            tls = ssl._create_unverified_context()
            connection = stack.enter_context(tls.wrap_socket(connection))
        room = memoryview(bytearray(_ROOM))
        while time.monotonic() < until:
            connection.sendall(next(requests))
            head, left = _head(connection)
            size += len(head)
            while left and time.monotonic() < until:
                received = connection.recv_into(room[:left], 0, flags)
                if not received:
                    raise SystemExit("an answer that ends too early")
                left -= received
                size += received
            count += not left
    return count, size


def _head(connection: socket.socket) -> tuple[bytes, int]:
    """What came with the head of an answer, and how much of the body is still to come."""
    head = b""
    while b"\r\n\r\n" not in head:
        piece = connection.recv(_HEAD)
        if not piece:
            raise SystemExit("a connection that ends without an answer")
        head += piece
    found = re.search(rb"(?i)\r\ncontent-length: *(\d+)\r\n", head)
    if not head.startswith(b"HTTP/1.1 200 ") or found is None:
        raise SystemExit(head.decode(errors="replace"))
    return head, int(found[1]) - (len(head) - head.index(b"\r\n\r\n") - 4)


def _receive_all(
    url: str, connections: int, seconds: float, paths: Sequence[str], *, discard: bool
) -> tuple[int, int, float]:
    token = os.environ.get(TOKEN)
    credential = f"Authorization: Bearer {token}\r\n" if token else ""
    host = urlsplit(url).netloc
    requests = cycle([f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{credential}\r\n".encode() for path in paths])
    began = time.monotonic()
    with ThreadPoolExecutor(connections) as pool:
        work = [
            pool.submit(_receive, url, requests, began + seconds, discard=discard) for _ in range(connections)
        ]
        counts, sizes = zip(*(each.result() for each in work), strict=True)
    return sum(counts), sum(sizes), time.monotonic() - began


def main() -> None:
    url, connections, seconds, *bodies = sys.argv[1:]
    paths = sys.stdin.read().split()
    print(*_receive_all(url, int(connections), float(seconds), paths, discard=bodies == [_DISCARD]))


if __name__ == "__main__":
    main()
