"""The locks hold every pin of pyproject.toml, a hash for every package, and no address of a registry.

It asks no network: a pin that was changed without `make lock` is seen from the texts alone.
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAME_AND_VERSION = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)", re.MULTILINE)


def wanted_pins(pyproject: str) -> dict[str, dict[str, str]]:
    """Lock -> the pins that it has to hold."""
    data = tomllib.loads(pyproject)
    groups = data["dependency-groups"]
    run = [
        *data["project"]["dependencies"],
        *data["project"]["optional-dependencies"]["hub"],
        *groups["build"],
    ]
    return {"tools": _pins(groups["tools"]), "run": _pins(run), "dev": _pins([*run, *groups["dev"]])}


def locked(text: str) -> dict[str, str]:
    """Package -> version, of a lock."""
    return {_normal(name): version for name, version in NAME_AND_VERSION.findall(text)}


def faults(name: str, text: str, pins: dict[str, str]) -> list[str]:
    """What is wrong with one lock, in words."""
    found = locked(text)
    problems = [
        f"{name}.lock: {package} is {found.get(package, 'not there')}, pyproject.toml says {version}"
        for package, version in pins.items()
        if found.get(package) != version
    ]
    entries = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)
    problems += [
        f"{name}.lock: no hash for {entry.split()[0]}"
        for entry in entries
        if NAME_AND_VERSION.match(entry) and "--hash=sha256:" not in entry
    ]
    if "://" in text:
        problems.append(f"{name}.lock: names an address")
    return problems


def _pins(requirements: list[str]) -> dict[str, str]:
    pins = {}
    for requirement in requirements:
        match = NAME_AND_VERSION.match(requirement)
        if match is None:
            raise SystemExit(f"pyproject.toml: not pinned: {requirement}")
        pins[_normal(match[1])] = match[2]
    return pins


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> int:
    """Prints every fault; 1 if there is one."""
    pins = wanted_pins((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    problems = [
        problem
        for name, wanted in pins.items()
        for problem in faults(
            name, (ROOT / "requirements" / f"{name}.lock").read_text(encoding="utf-8"), wanted
        )
    ]
    for problem in problems:
        print(problem)
    if problems:
        print("bring them in line with: make lock")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
