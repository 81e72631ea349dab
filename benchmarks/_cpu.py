"""What processes use of the processors, their children and all that those leave behind included.

By a control group of the kernel, version 2 or 1, where this user may make one: it counts in microseconds, and
what has ended too. Else by /proc, in ticks of the clock, which sees only what is alive; the results say which
it was.
"""

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import Final

_JOIN: Final = 'echo $$ > "$0" && exec "$@"'
_PIN: Final = "taskset"
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_numbers = count(1)


class CpuGroup:
    """Processes that are counted together; without a folder by their ids alone."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._pids: list[int] = []

    def joining(self, argv: Sequence[str]) -> list[str]:
        """A command that belongs to the group from its first instruction on."""
        if self._folder is None:
            return list(argv)
        return ["/bin/sh", "-c", _JOIN, str(self._folder / "cgroup.procs"), *argv]

    def add(self, pid: int) -> None:
        """Count a process that runs already, and its children, from now on."""
        self._pids.append(pid)
        if self._folder is not None:
            for each in (pid, *_descendants(pid)):
                with suppress(ProcessLookupError):
                    (self._folder / "cgroup.procs").write_text(str(each))

    def seconds(self) -> float:
        """What they have used so far."""
        if self._folder is None:
            return sum(_process_seconds(each) for pid in self._pids for each in (pid, *_descendants(pid)))
        old = self._folder / "cpuacct.usage"
        if old.exists():
            return int(old.read_text()) / 1e9
        fields = dict(line.split() for line in (self._folder / "cpu.stat").read_text().splitlines())
        return int(fields["usage_usec"]) / 1e6


def keep_apart() -> None:
    """Keep to one core from now on, with all that is started, but for what `on_other_cores` is put before.

    Where a server and what asks it run is chance else, changes every few seconds, and decides what each byte
    costs, by as much as a half.
    """
    usable = os.sched_getaffinity(0)
    if len(usable) > 1 and shutil.which(_PIN):
        os.sched_setaffinity(0, {min(usable)})


def on_other_cores() -> list[str]:
    """What comes before a command that is not to run where we keep to."""
    others = set(range(os.cpu_count() or 1)) - os.sched_getaffinity(0)
    return [_PIN, "-c", ",".join(map(str, sorted(others)))] if others and shutil.which(_PIN) else []


@contextmanager
def cpu_group() -> Iterator[CpuGroup]:
    """An empty group; what is still in it at the end has to end by itself."""
    parent = _parent()
    if parent is None:
        yield CpuGroup(None)
        return
    folder = parent / f"piste-bench-{os.getpid()}-{next(_numbers)}"
    folder.mkdir()
    try:
        yield CpuGroup(folder)
    finally:
        _remove(folder)


def accounting() -> str:
    """How it is counted here."""
    parent = _parent()
    if parent is None:
        return "/proc"
    return "cgroup v1" if (parent / "cpuacct.usage").exists() else "cgroup v2"


@cache
def _parent() -> Path | None:
    """Where groups can be made: within our own one, or else at the root of its hierarchy."""
    for folder in _candidates():
        probe = folder / f"piste-bench-{os.getpid()}"
        try:
            probe.mkdir()
        except OSError:
            continue
        usable = (probe / "cpu.stat").exists() and "usage_usec" in (probe / "cpu.stat").read_text()
        usable = usable or (probe / "cpuacct.usage").exists()
        probe.rmdir()
        if usable and os.access(folder / "cgroup.procs", os.W_OK):
            return folder
    return None


def _candidates() -> Iterator[Path]:
    own = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        own[controllers] = path.lstrip("/")
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mount, kind, options = line.split()[:4]
        if kind == "cgroup2":
            yield Path(mount) / own.get("", "")
            yield Path(mount)
        elif kind == "cgroup" and "cpuacct" in options.split(","):
            yield Path(mount)


def _remove(folder: Path) -> None:
    """A group goes once its last process is gone, which may take the kernel a moment."""
    for _ in range(200):
        with suppress(OSError):
            folder.rmdir()
            return
        time.sleep(0.01)


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            children = [int(each) for each in (task / "children").read_text().split()]
            for child in children:
                found += [child, *_descendants(child)]
    return found


def _process_seconds(pid: int) -> float:
    """Its own, and of those of its children that ended."""
    try:
        # The name may hold spaces and brackets; what follows it does not.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(int(field) for field in fields[11:15]) / _TICKS
