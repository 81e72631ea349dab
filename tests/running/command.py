"""The command as people run it, in an environment that holds nothing of whoever runs the tests."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PISTE = Path(sys.executable).parent / "piste"


@dataclass(frozen=True)
class Finished:
    """What a command printed, and how it ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """The result that it printed with --json."""
        return json.loads(self.stdout)

    @property
    def problem(self) -> dict[str, Any]:
        """The error that it printed with --json."""
        found: dict[str, Any] = json.loads(self.stderr.strip().splitlines()[-1])["error"]
        return found


@dataclass
class Person:
    """Somebody at a machine of their own: a home, a Nix store, perhaps a token."""

    folder: Path
    hub: str = ""
    token: str | None = None
    nix: Path | None = None  # the folder of another version's commands than the one on PATH
    extra: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        (self.folder / "home").mkdir(parents=True, exist_ok=True)

    @property
    def root(self) -> Path:
        """The folder that stands for the root of the machine."""
        return self.folder / "root"

    @property
    def store(self) -> str:
        return f"local?root={self.root}"

    @property
    def environment(self) -> dict[str, str]:
        """Everything that a program of this person is given."""
        search = [str(PISTE.parent), *([str(self.nix)] if self.nix else []), os.environ["PATH"]]
        found = {
            "PATH": ":".join(search),
            "HOME": str(self.folder / "home"),
            "USER": "tester",
            "LANG": "C.UTF-8",
            # Without both of these some of Nix's commands make /nix on this machine.
            "NIX_REMOTE": self.store,
            "NIX_STATE_DIR": f"{self.root}/nix/var/nix",
            "NIX_USER_CONF_FILES": "",
            "PISTE_STORE": self.store,
            "PISTE_ROOT": str(self.root),
            "PISTE_CONFIG_HOME": str(self.folder / "config"),
            "GIT_CONFIG_GLOBAL": "/dev/null",
        }
        if self.hub:
            found["PISTE_HUB"] = self.hub
        if self.token is not None:
            found["PISTE_TOKEN_FILE"] = str(self._token_file(self.token))
        return found | dict(self.extra)

    def piste(self, *arguments: str, timeout: float = 250, cwd: Path | None = None) -> Finished:
        """Run `piste …`, whatever comes of it."""
        return self.run(str(PISTE), *arguments, timeout=timeout, cwd=cwd)

    def succeed(self, *arguments: str, timeout: float = 250, cwd: Path | None = None) -> Finished:
        """Run `piste …`, which has to succeed."""
        done = self.piste(*arguments, timeout=timeout, cwd=cwd)
        assert done.code == 0, f"piste {' '.join(arguments)} ended with {done.code}:\n{done.stderr}"
        return done

    def run(
        self,
        *argv: str,
        timeout: float = 250,
        cwd: Path | None = None,
        extra: Mapping[str, str] | None = None,
    ) -> Finished:
        """Run any program."""
        done = subprocess.run(
            argv,
            env=self.environment | dict(extra or {}),
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    def _token_file(self, token: str) -> Path:
        file = self.folder / "token"
        file.touch(mode=0o600)
        file.write_text(token + "\n")
        return file


def check(done: Finished, argv: Sequence[str] = ()) -> str:
    """The output of a program that has to have succeeded."""
    assert done.code == 0, f"{' '.join(argv)} ended with {done.code}:\n{done.stderr}"
    return done.stdout.strip()
