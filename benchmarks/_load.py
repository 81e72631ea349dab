"""Asks one server for the same files again and again, over several connections: as a process of its own.

    python -m benchmarks._load ADDRESS CONNECTIONS SECONDS < paths

wrk does it where it can be had; else what stands here, which needs more of a processor itself. The token is
in the environment, since every local user can read arguments.
"""

import asyncio
import os
import re
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from benchmarks._cpu import on_other_cores
from benchmarks._peers import command

_TOKEN: Final = "BENCH_TOKEN"
_SCRIPT: Final = """\
local paths = {{ {paths} }}
local place = 0
local token = os.getenv("{token}")
if token then wrk.headers["Authorization"] = "Bearer " .. token end
request = function()
  place = place % #paths + 1
  return wrk.format("GET", paths[place])
end
done = function(summary, latency)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format("FOUND %d %d %d %d\\n", summary.requests, summary.bytes, summary.duration, failed))
end
"""


@dataclass(frozen=True)
class Load:
    """What was answered."""

    requests: int
    bytes_read: int  # also of answers that the end cut off
    seconds: float
    tool: str
    # Over loopback, by the whole machine: what nobody had read at the end counts too, since a server has
    # worked for it. Receivers' sockets hold tens of MB each, a good part of what is sent in a second.
    bytes_sent: int = 0

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


def put_under_load(url: str, paths: Sequence[str], token: str | None, connections: int, seconds: int) -> Load:
    """GET all of the paths in turn for so long; an answer other than 200 is an error. Where this process, and
    the servers that it started, keep to some of the cores (`keep_apart`), the others are for this."""
    before = _over_loopback()
    load = _ask(url, paths, token, connections, seconds)
    return replace(load, bytes_sent=_over_loopback() - before)


def _over_loopback() -> int:
    return int(Path("/sys/class/net/lo/statistics/tx_bytes").read_text())


def _ask(url: str, paths: Sequence[str], token: str | None, connections: int, seconds: int) -> Load:
    environment = dict(os.environ) | ({_TOKEN: token} if token else {})
    limit = seconds + 30
    program = command("usr/bin/wrk")
    if program is None:
        load = [sys.executable, "-m", "benchmarks._load", url, str(connections), str(seconds)]
        argv = [*on_other_cores(), *load]
        done = subprocess.run(
            argv,
            env=environment,
            input="\n".join(paths),
            capture_output=True,
            text=True,
            timeout=limit,
            check=True,
        )
        count, size, took = done.stdout.split()
        return Load(int(count), int(size), float(took), "asyncio")
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "paths.lua"
        listed = ", ".join(f'"{path}"' for path in paths)
        script.write_text(_SCRIPT.format(paths=listed, token=_TOKEN))
        argv = [
            *on_other_cores(),
            *program,
            "-t1",
            f"-c{connections}",
            f"-d{seconds}s",
            "--timeout",
            f"{limit}s",
            "-s",
            str(script),
            url,
        ]
        done = subprocess.run(
            argv, env=environment, capture_output=True, text=True, timeout=limit, check=True
        )
    return _read_wrk(done.stdout)


def _read_wrk(text: str) -> Load:
    found = re.search(r"^FOUND (\d+) (\d+) (\d+) (\d+)$", text, re.MULTILINE)
    if found is None or found[4] != "0":
        raise SystemExit(f"the load was not answered well:\n{text}")
    return Load(int(found[1]), int(found[2]), int(found[3]) / 1e6, "wrk")


async def _connection(
    host: str, port: int, tls: ssl.SSLContext | None, requests: "cycle[bytes]", until: float
) -> tuple[int, int]:
    reader, writer = await asyncio.open_connection(host, port, ssl=tls)
    count = size = 0
    try:
        while time.monotonic() < until:
            writer.write(next(requests))
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith((b"HTTP/1.1 200", b"HTTP/1.0 200")):
                raise SystemExit(head.decode())
            found = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
            if found is None:
                raise SystemExit("an answer without a length")
            await reader.readexactly(int(found[1]))
            count += 1
            size += int(found[1])
    finally:
        writer.close()
    return count, size


async def _generate(
    url: str, connections: int, seconds: float, paths: Sequence[str]
) -> tuple[int, int, float]:
    host, _, port = urlsplit(url).netloc.partition(":")
    tls = ssl._create_unverified_context() if url.startswith("https") else None
    token = os.environ.get(_TOKEN)
    credential = f"Authorization: Bearer {token}\r\n" if token else ""
    requests = cycle([f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{credential}\r\n".encode() for path in paths])
    began = time.monotonic()
    work = [_connection(host, int(port), tls, requests, began + seconds) for _ in range(connections)]
    counts, sizes = zip(*await asyncio.gather(*work), strict=True)
    return sum(counts), sum(sizes), time.monotonic() - began


def main() -> None:
    url, connections, seconds = sys.argv[1:]
    found = asyncio.run(_generate(url, int(connections), float(seconds), sys.stdin.read().split()))
    print(*found)


if __name__ == "__main__":
    main()
