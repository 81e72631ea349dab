"""The one place that starts other programs.

Argument lists only, never a shell; an environment that holds no credential of Piste's own; standard
output is data, standard error is kept in its last part for messages. A secret must never be in an
argument: every local user can read those.
"""

import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from piste.lib.errors import PisteError

_KEPT: Final = frozenset(
    [
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "SHELL",
        "LANG",
        "TERM",
        "TZ",
        "TMPDIR",
        "LOCALE_ARCHIVE",
        "IN_NIX_SHELL",
        "SSH_AUTH_SOCK",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "CURL_CA_BUNDLE",
        "GIT_SSL_CAINFO",
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "no_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "NO_PROXY",
    ]
)
_KEPT_PREFIXES: Final = ("NIX_", "LC_", "XDG_", "GIT_SSH", "GIT_CONFIG", "AWS_", "SYSTEMD_", "DBUS_")
_STDERR_KEPT: Final = (
    64 * 1024
)  # enough for a trace of Nix; doubled, only messages that nobody reads get longer
_STDERR_SHOWN: Final = 20  # lines of it that an error message quotes


@dataclass(frozen=True)
class Completed:
    """A program that has ended: what it printed, and the last part of what it said."""

    argv: tuple[str, ...]
    code: int
    stdout: bytes
    stderr: str

    @property
    def text(self) -> str:
        """Standard output as text, without the line end."""
        return self.stdout.decode(errors="replace").rstrip("\n")


class CommandError(PisteError):
    """A program ended with a status other than 0; `completed` has the whole of it, `said` its last lines."""

    def __init__(self, completed: Completed) -> None:
        name = " ".join(completed.argv[:3])
        status = f"status {completed.code}" if completed.code >= 0 else f"signal {-completed.code}"
        self.said = "\n".join(completed.stderr.strip().splitlines()[-_STDERR_SHOWN:])
        super().__init__(
            "command-failed", f"`{name} …` ended with {status}" + (f":\n{self.said}" if self.said else ".")
        )
        self.completed = completed


def environment(additions: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a program is given: the settings that programs need, and no credential of ours."""
    kept = {
        name: value for name, value in os.environ.items() if name in _KEPT or name.startswith(_KEPT_PREFIXES)
    }
    return kept | dict(additions or {})


def find(command: str, path: str | None = None) -> Path | None:
    """Where `command` is on PATH."""
    found = shutil.which(command, path=path)
    return Path(found) if found else None


def run(
    argv: Sequence[str],
    *,
    extra: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float | None = None,
    data: bytes | None = None,
    check: bool = True,
    on_stderr: Callable[[str], None] | None = None,
) -> Completed:
    """Run a program to its end; CommandError if it fails and `check` is set.

    `data` becomes its standard input (else empty), `extra` is added to its environment, and
    `on_stderr` is given each line that it says while it runs.
    """
    child = spawn(argv, extra=extra, cwd=cwd, stdin=data is not None, on_stderr=on_stderr)
    try:
        stdout = child.communicate(data, timeout)
    except subprocess.TimeoutExpired as error:
        raise PisteError(
            "command-timeout", f"`{' '.join(argv[:3])} …` did not end within {timeout:g} seconds."
        ) from error
    finally:
        child.close()
    completed = Completed(tuple(argv), child.code, stdout, child.stderr)
    if check and completed.code != 0:
        raise CommandError(completed)
    return completed


def run_apart(
    argv: Sequence[str], log: Path, *, env: Mapping[str, str], started: Callable[[int], None] | None = None
) -> int:
    """Run a program in a session of its own, with all that it prints appended to `log`; its exit status.

    For what must come to its end though the terminal, or the person at it, goes away: an interrupt only
    makes the wait go on. `env` is the whole of its environment; `started` is told its number.
    """
    with log.open("ab") as output:
        try:
            process = subprocess.Popen(
                list(argv),
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        except OSError as error:
            reason = f"`{argv[0]}` can't be started: {error.strerror}."
            raise PisteError("command-missing", reason) from error
        if started is not None:
            started(process.pid)
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue


def attend(argv: Sequence[str], *, extra: Mapping[str, str] | None = None) -> int:
    """Run somebody's own command as they would run it: with their terminal and all of their environment, and
    `extra`. Its exit status; an interrupt is the command's to take, and it is waited for.
    """
    try:
        process = subprocess.Popen(list(argv), env=dict(os.environ) | dict(extra or {}))
    except OSError as error:
        raise PisteError("command-missing", f"`{argv[0]}` can't be started: {error.strerror}.") from error
    while True:
        try:
            code = process.wait()
        except KeyboardInterrupt:
            continue
        return code if code >= 0 else 128 - code


def born(pid: int) -> str | None:
    """When a running process was started, by the kernel's count: with its number, no other has it.

    None if it has ended, also if nobody has asked for its status yet.
    """
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in ("Z", "X") else fields[18]


class Child:
    """A running program with pipes; its standard error is read on the side, so that it never blocks."""

    def __init__(self, process: "subprocess.Popen[bytes]", on_stderr: Callable[[str], None] | None) -> None:
        self._process = process
        self._tail = bytearray()
        self._on_stderr = on_stderr
        self._reader = threading.Thread(target=self._read_stderr, daemon=True)
        self._reader.start()

    @property
    def stdin(self) -> IO[bytes]:
        if self._process.stdin is None:
            raise ValueError("the program was started without a pipe for its input")
        return self._process.stdin

    @property
    def stdout(self) -> IO[bytes]:
        if self._process.stdout is None:
            raise ValueError("the program was started without a pipe for its output")
        return self._process.stdout

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def code(self) -> int:
        """The exit status; waits for it. Negative: the number of the signal that ended it."""
        return self._process.wait()

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def stderr(self) -> str:
        """The last part of what it said; complete once it has ended."""
        if not self.running:
            # A grandchild that outlives it may hold the pipe open; what that says is not ours to wait for.
            self._reader.join(timeout=1)
        return self._tail.decode(errors="replace")

    def communicate(self, data: bytes | None, timeout: float | None) -> bytes:
        """Write `data`, close the input, read all of the output, wait for the end."""
        # Popen.communicate would also read stderr, which the thread does already.
        self._process.stderr, kept = None, self._process.stderr
        try:
            stdout, _ = self._process.communicate(data, timeout)
        finally:
            self._process.stderr = kept
        return stdout

    def close(self, grace: float = 5) -> int:
        """End it, politely first, and give its status."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None and not pipe.closed:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue  # it went before it had read everything
        if self.running:
            self._process.terminate()
            try:
                self._process.wait(grace)
            except subprocess.TimeoutExpired:
                self._process.kill()
        return self.code

    def wait(self, timeout: float) -> bool:
        """True if it ended within `timeout` seconds."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _read_stderr(self) -> None:
        pipe = self._process.stderr
        if pipe is None:
            return
        for line in iter(lambda: pipe.readline(_STDERR_KEPT), b""):
            self._tail += line
            del self._tail[:-_STDERR_KEPT]
            if self._on_stderr:
                self._on_stderr(line.decode(errors="replace").rstrip("\r\n"))


def spawn(
    argv: Sequence[str],
    *,
    extra: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: bool = True,
    on_stderr: Callable[[str], None] | None = None,
) -> Child:
    """Start a program with pipes to its input and output; `command-missing` if it isn't there."""
    try:
        process = subprocess.Popen(
            list(argv),
            env=environment(extra),
            cwd=cwd,
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    except FileNotFoundError as error:
        if cwd is not None and not cwd.is_dir():
            raise PisteError("no-such-folder", f"There is no folder {cwd}.") from error
        raise PisteError(
            "command-missing",
            f"The command `{argv[0]}` is not there.",
            hint=f"Install it, or put the folder that holds `{argv[0]}` on PATH.",
        ) from error
    except PermissionError as error:
        raise PisteError(
            "command-missing", f"The command `{argv[0]}` may not be run: {error.strerror}."
        ) from error
    return Child(process, on_stderr)
