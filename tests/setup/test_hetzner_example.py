"""The example for Hetzner Cloud: what can be known about it without the Internet."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.setup.nix import ROOT
from tools.documented import commands

EXAMPLE = ROOT / "examples" / "hetzner"
SCRIPTS = sorted((EXAMPLE / "provision").glob("*.sh"))


def test_every_command_and_flag_that_it_uses_exists() -> None:
    known = commands()
    used = list(_uses(known))
    assert {"piste publish", "piste apply", "piste rollback", "piste fetch"} <= {name for name, _ in used}
    for command, line in used:
        assert command in known, f"no such command: {line}"
        # What follows a pipe or stands in a substitution of its own is another program's.
        unknown = set(re.findall(r"(?<!\S)--[a-z-]+", re.split(r"[|;>]", line)[0])) - known[command]
        assert not unknown, f"{line}: {unknown}"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_its_scripts_are_shell_and_can_be_started(script: Path) -> None:
    done = subprocess.run(["bash", "-n", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert script.stat().st_mode & 0o111


def test_its_scripts_pass_shellcheck() -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not on this machine")
    done = subprocess.run(["shellcheck", *SCRIPTS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_its_hcl_is_well_formed() -> None:
    program = shutil.which("tofu") or shutil.which("terraform")
    if program is None:
        pytest.skip("neither tofu nor terraform is on this machine")
    command = [program, "fmt", "-check", "-diff", "-recursive", str(EXAMPLE / "tofu")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_secret_is_a_variable_or_an_argument_of_tofu() -> None:
    hcl = "".join(path.read_text(encoding="utf-8") for path in (EXAMPLE / "tofu").glob("*.tf"))
    variables = re.findall(r'variable "(\w+)"', hcl)
    assert not [name for name in variables if re.search("token|secret|password|private", name)]
    assert "install_token" not in hcl
    assert "host_token" not in hcl


def _uses(known: dict[str, set[str]]) -> Iterator[tuple[str, str]]:
    """Each use of the command in code, as (command, line)."""
    for path in sorted(EXAMPLE.rglob("*")):
        if path.suffix in {".sh", ".yml", ".nix", ".md"}:
            text = path.read_text(encoding="utf-8")
            code = _code_of_markdown(text) if path.suffix == ".md" else _without_comments(text)
            for line in code.replace("\\\n", " ").splitlines():
                for match in re.finditer(r"(?<![\w./-])piste((?: [a-z][a-z-]*)+)", line):
                    yield _longest(match[1].split(), known), line[match.start() :]


def _longest(words: list[str], known: dict[str, set[str]]) -> str:
    for count in range(len(words), 0, -1):
        if (command := " ".join(["piste", *words[:count]])) in known:
            return command
    return " ".join(["piste", *words])


def _code_of_markdown(text: str) -> str:
    blocks = re.findall(r"```\w*\n(.*?)```", text, flags=re.DOTALL)
    return "\n".join([*blocks, *re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))])


def _without_comments(text: str) -> str:
    return re.sub(r"(?m)^\s*#.*$", "", text)
