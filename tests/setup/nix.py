"""Real Nix for the tests of this folder: parsing and evaluating, with a store that does not exist."""

import json
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def nix_instantiate(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs nix-instantiate without any store: what is only parsed or evaluated needs none."""
    folder = Path((ROOT / ".cache/nix/chosen").read_text(encoding="utf-8").strip())
    environment = {"PATH": f"{folder}:/usr/bin:/bin", "HOME": str(home), "NIX_REMOTE": "dummy://"}
    return subprocess.run(
        ["nix-instantiate", *arguments], env=environment, capture_output=True, text=True, check=False
    )


def evaluate(home: Path, expression: str) -> Any:
    """The value of an expression; a failure shows what Nix said."""
    done = nix_instantiate(home, "--eval", "--strict", "--json", "--expr", expression)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
