"""A real hub as a process of its own, and a plain HTTP client for it."""

import http.client
import json as json_module
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_COMMAND = [sys.executable, "-c", "from piste.cli.main import main; main()"]
_START_SECONDS = 30.0
_STOP_SECONDS = 30.0


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        return json_module.loads(self.body)

    @property
    def ref(self) -> str:
        """The reference of an error."""
        found: str = self.json()["error"]["ref"]
        return found


@dataclass
class Hub:
    """One hub process on a data folder. `start` waits until it serves."""

    data: Path
    database: str | None = None
    options: tuple[str, ...] = ()
    listen: str = "127.0.0.1:0"
    prefix: tuple[str, ...] = ()  # stands before the command, to give it a world of its own
    program: tuple[str, ...] = tuple(_COMMAND)
    url: str = ""
    lines: list[str] = field(default_factory=list)
    _process: subprocess.Popen[str] | None = None
    _admin: str | None = None

    @property
    def process(self) -> subprocess.Popen[str]:
        if self._process is None:
            raise RuntimeError("the hub is not running")
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def admin(self) -> str:
        """An admin token, made once."""
        if self._admin is None:
            self._admin = self.command("admin-token").stdout.strip()
        return self._admin

    def start(self) -> "Hub":
        """Again on the same port after a stop."""
        arguments = [
            *self.prefix,
            *self.program,
            "hub",
            "serve",
            "--data",
            str(self.data),
            "--listen",
            self.listen,
            *self.options,
        ]
        self._process = subprocess.Popen(
            arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=self._environment()
        )
        announced: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, args=(self._process, announced), daemon=True).start()
        address = announced.get(timeout=_START_SECONDS)
        if address is None:
            raise RuntimeError("the hub ended at once: " + "\n".join(self.lines[-20:]))
        self.url = address
        self.listen = urlsplit(address).netloc
        return self

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(_STOP_SECONDS)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(_STOP_SECONDS)

    def close(self) -> None:
        """Gone, whatever state it was in."""
        if self._process is not None:
            if self._process.poll() is None:
                self.kill()
            if self._process.stderr is not None:
                self._process.stderr.close()

    def command(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`piste hub …` on the same data."""
        return subprocess.run(
            [*_COMMAND, "hub", *arguments, "--data", str(self.data)],
            check=check,
            capture_output=True,
            text=True,
            env=self._environment(),
            timeout=60,
        )

    def request(
        self,
        method: str,
        path: str,
        *,
        token: str | None = None,
        json: object = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request; the path goes out as it is given."""
        sent = dict(headers or {})
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        if json is not None:
            body = json_module.dumps(json).encode()
        connection = self.connect()
        try:
            connection.request(method, path, body=body, headers=sent)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=60)

    def as_admin(self, method: str, path: str, *, json: object = None) -> Any:
        """A request with every right that must succeed; the message it is answered with."""
        answer = self.request(method, path, token=self.admin, json=json)
        if answer.status >= 300:
            raise AssertionError(f"{method} {path}: {answer.status} {answer.body.decode()}")
        return answer.json() if answer.body else None

    def make_token(self, organization: str, **fields: object) -> str:
        """A token of an organization, by the admin."""
        asked = {"kind": "user", "description": "a test", **fields}
        token: str = self.as_admin("POST", f"/api/v1/organizations/{organization}/tokens", json=asked)[
            "token"
        ]
        return token

    def make_member(self, organization: str, person: str, role: str = "member") -> str:
        """A member of an organization, and a token for that person."""
        place = f"/api/v1/organizations/{organization}/members"
        self.as_admin("POST", place, json={"person": person, "role": role})
        return self.make_token(organization, person=person)

    def log_lines(self, event: str) -> list[dict[str, Any]]:
        """Structured lines that were written so far."""
        found = [json_module.loads(line) for line in self.lines if line.startswith("{")]
        return [line for line in found if line.get("event") == event]

    def _environment(self) -> dict[str, str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PISTE_")}
        if self.database is not None:
            environment["PISTE_DATABASE"] = self.database
        return environment

    def _read(self, process: subprocess.Popen[str], announced: "queue.Queue[str | None]") -> None:
        if process.stderr is None:
            return
        for line in process.stderr:
            self.lines.append(line.rstrip("\n"))
            if match := re.match(r"Listening on (\S+),", line):
                announced.put(match[1])
        announced.put(None)


def wait_for(condition: Any, seconds: float = 10.0) -> None:
    """Until the condition holds; an error when it doesn't in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"did not come true within {seconds} s: {condition}")
        time.sleep(0.01)
