"""Asks one server for the same files again and again, over several connections.

A process of its own does it: wrk where it can be had, which does most with little, else `_receiver`; and
always that for large answers in the clear, which it need not copy. The token is in the environment, since
every local user can read arguments.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from benchmarks._cpu import on_other_cores
from benchmarks._peers import command
from benchmarks._receiver import TOKEN

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
    # Over loopback, by the whole machine: what nobody had read at the end counts too, since a server has
    # worked for it. Receivers' sockets hold tens of MB each, a good part of what is sent in a second.
    bytes_sent: int = 0


def put_under_load(
    url: str,
    paths: Sequence[str],
    token: str | None,
    connections: int,
    seconds: int,
    *,
    large: bool = False,
) -> Load:
    """GET all of the paths in turn for so long; an answer other than 200 is an error. Where this process, and
    the servers that it started, keep to some of the cores (`keep_apart`), the others are for this.

    `large`: the answers are. To copy a byte costs more than to send it from a file, so that who receives is
    what limits both; and over loopback a server that waits for it sends most of its packets while the other's
    processor handles acknowledgements, for nothing. Those in the clear are thrown away unread instead.
    """
    before = _over_loopback()
    load = _ask(url, paths, token, connections, seconds, large and url.startswith("http:"))
    return replace(load, bytes_sent=_over_loopback() - before)


def _over_loopback() -> int:
    return int(Path("/sys/class/net/lo/statistics/tx_bytes").read_text())


def _ask(
    url: str, paths: Sequence[str], token: str | None, connections: int, seconds: int, discard: bool
) -> Load:
    environment = dict(os.environ) | ({TOKEN: token} if token else {})
    limit = seconds + 30
    program = command("usr/bin/wrk")
    if program is None or discard:
        receiver = [sys.executable, "-m", "benchmarks._receiver", url, str(connections), str(seconds)]
        done = subprocess.run(
            [*on_other_cores(), *receiver, *(("discard",) if discard else ())],
            env=environment,
            input="\n".join(paths),
            capture_output=True,
            text=True,
            timeout=limit,
        )
        if done.returncode:
            raise SystemExit(f"the load was not answered well:\n{done.stderr}")
        count, size, took = done.stdout.split()
        return Load(int(count), int(size), float(took))
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "paths.lua"
        listed = ", ".join(f'"{path}"' for path in paths)
        script.write_text(_SCRIPT.format(paths=listed, token=TOKEN))
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
    return Load(int(found[1]), int(found[2]), int(found[3]) / 1e6)
