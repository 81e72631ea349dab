"""Who acts in the demo: people and machines that share nothing but the hub's address. All is real."""

import http.client
import json
import os
import queue
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from examples.demo import terminal

PISTE = Path(sys.executable).parent / "piste"
_HUB_STARTS = 30.0  # seconds
_STOPS = 20.0


class StopError(Exception):
    """The demo can't go on; the text says why."""


@dataclass
class Actor:
    """A user of one machine: a home, a Nix store and a root of their own."""

    name: str
    folder: Path
    extra: Mapping[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)  # what each step took
    wire: dict[str, str] = field(default_factory=dict)  # what each step sent or received

    @property
    def root(self) -> Path:
        """The folder that stands for the root of the machine."""
        return self.folder / f"{self.name}-machine"

    @property
    def environment(self) -> dict[str, str]:
        """All that the commands are given; nothing of whoever runs the demo but the search path."""
        home = self.folder / f"{self.name}-home"
        home.mkdir(exist_ok=True)
        store = f"local?root={self.root}"
        return {
            "PATH": f"{PISTE.parent}:{os.environ['PATH']}",
            "HOME": str(home),
            "USER": self.name,
            "LANG": "C.UTF-8",
            "PISTE_CONFIG_HOME": str(home / "piste"),
            "PISTE_STORE": store,
            "PISTE_ROOT": str(self.root),
            # Without both of these, some of Nix's commands would make a /nix on this machine.
            "NIX_REMOTE": store,
            "NIX_STATE_DIR": f"{self.root}/nix/var/nix",
            "NIX_USER_CONF_FILES": "",
            "GIT_CONFIG_GLOBAL": os.devnull,
            **self.extra,
        }

    def run(self, line: str, *, into: str | None = None, code: int = 0, step: str = "") -> str:
        """Show a command, run it, show what it says; its output goes to a file where `into` names one.

        `code` is the exit code that it should have, `step` what its time is remembered as.
        """
        terminal.command(line + (f" > {into}" if into else ""))
        began = time.monotonic()
        ended, printed = self._run(shlex.split(line), show=into is None)
        if step:
            self.seconds[step] = time.monotonic() - began
        if ended != code:
            raise StopError(f"`{line}` ended with {ended} instead of {code}.")
        if into:
            file = self.folder / into
            file.touch(mode=0o600)
            file.write_text(printed)
        if code:
            terminal.verdict(True, f"exit code {code}")
        return printed.strip()

    def ask(self, line: str) -> Any:
        """The JSON that a command prints; not shown."""
        argv = shlex.split(line)
        done = subprocess.run(argv, env=self.environment, cwd=self.folder, capture_output=True, check=True)
        return json.loads(done.stdout)

    def quietly(self, *argv: str) -> None:
        """Run a program that is not what the demo is about."""
        done = subprocess.run(
            argv, env=self.environment, cwd=self.folder, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise StopError(f"`{shlex.join(argv)}` ended with {done.returncode}: {done.stderr.strip()}")

    def _run(self, argv: list[str], *, show: bool) -> tuple[int, str]:
        process = subprocess.Popen(
            argv,
            env=self.environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        if process.stdout is None or process.stderr is None:
            raise StopError("no pipes")
        speaking = threading.Thread(target=_pass_on, args=(process.stderr,), daemon=True)
        speaking.start()
        try:
            printed = process.stdout.read()
            speaking.join()
            code = process.wait()
        except BaseException:  # the demo is ended: so is what it runs
            process.terminate()
            process.wait(_STOPS)
            raise
        for line in printed.splitlines() if show else ():
            terminal.printed(line)
        return code, printed


def _pass_on(stream: IO[str]) -> None:
    for line in stream:
        text = line.rstrip()
        # What Nix says while it builds is not what the demo is about.
        if text and not text.startswith(
            ("building '/nix", "  /nix/store/", "these ", "this derivation", "warning: you did")
        ):
            terminal.said(text)


class HubProcess:
    """The hub, for as long as the demo lasts."""

    def __init__(self, actor: Actor) -> None:
        self._actor = actor
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._tail: list[str] = []
        self._process: subprocess.Popen[str] | None = None
        self.url = ""

    def start(self) -> None:
        """Run it on a free port of loopback, and wait until it answers."""
        line = "piste hub serve --data hub --listen 127.0.0.1:0"
        terminal.command(line + " &")
        self._process = subprocess.Popen(
            shlex.split(line),
            env=self._actor.environment,
            cwd=self._actor.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        threading.Thread(target=self._read, args=(self._process.stderr,), daemon=True).start()
        deadline = time.monotonic() + _HUB_STARTS
        while not self.url:
            try:
                text = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                text = None
            if text is None:
                raise StopError("The hub did not start:\n" + "\n".join(self._tail[-10:]))
            if found := re.search(r"http://127\.0\.0\.1:[0-9]+", text):
                self.url = found[0]
        if self.request("/healthz")[0] != 200:
            raise StopError("The hub does not answer /healthz.")

    def request(self, path: str, token: str | None = None) -> tuple[int, bytes]:
        """GET, as anybody could send it: the status and the body."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=30)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def stop(self) -> None:
        """SIGTERM, as systemd would."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOPS)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            self._tail.append(line.rstrip())
            del self._tail[:-50]
            if not self.url:
                self._lines.put(line)
        self._lines.put(None)
