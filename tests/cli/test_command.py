"""The command as a whole: help, usage errors, exit codes, start-up."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cyclopts import App

from piste.cli import main
from piste.cli.manual import page
from piste.lib.errors import UsageError
from tests.running.command import PISTE, Person

VERBS = [name for name, _, _ in (*main._VERBS, *main._GROUPS)]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(person: Person, verb: str) -> None:
    done = person.succeed(verb, "--help")
    assert done.stdout.startswith(f"Usage: piste {verb}")
    assert "For example" in done.stdout or verb == "logout", "an example teaches most"


def every_command(app: App, *before: str) -> Iterator[tuple[str, ...]]:
    for name in app:
        if not name.startswith("-"):
            yield (*before, name)
            yield from every_command(app[name], *before, name)


def test_every_command_of_every_group_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    commands = list(every_command(main.make_app()))
    assert ("org", "upstream", "add") in commands
    for words in commands:
        assert main.run([*words, "--help"]) == 0
        shown, said = capsys.readouterr()
        assert shown.startswith(f"Usage: piste {' '.join(words)}"), words
        assert said == ""
        assert "--empty-" not in shown and "--no-json" not in shown, words


@pytest.mark.parametrize(
    ("mistyped", "meant"),
    [
        (["org", "upstream", "add", "acme"], "piste org upstream add"),
        (["cache", "info"], "piste cache info"),
        (["cache", "inf"], "piste cache"),
        (["resolve"], "piste resolve"),
        ([], "piste"),
    ],
)
def test_the_hint_names_the_command_that_was_meant(mistyped: list[str], meant: str) -> None:
    problem = main.as_problem(UsageError("usage", "Wrong."), mistyped)
    assert problem is not None and problem.hint == f"`{meant} --help` explains the command."


def test_without_a_verb_the_list_of_verbs_is_shown(person: Person) -> None:
    shown = person.succeed().stdout
    assert all(f" {verb} " in shown for verb in VERBS)


def test_the_version_is_one_line(person: Person) -> None:
    assert re.fullmatch(r"piste \d+\.\d+\.\d+\S*\n", person.succeed("--version").stdout)


@pytest.mark.parametrize(
    "arguments",
    [
        ("no-such-verb",),
        ("resolve",),
        ("resolve", "--no-such-option"),
        ("resolve", "acme/web/1#x"),  # no hub
        ("resolve", "not a reference", "--hub", "http://127.0.0.1:1"),
        ("resolve", "acme/web", "--hub", "http://127.0.0.1:1"),
        ("resolve", "acme/web#x", "--hub", "nonsense"),
        ("publish", "--name", "acme/web"),
        ("publish", "--name", "acme", "--version", "1.0.0"),
        ("publish", "--name", "acme/web", "--version", "1.0.0", "--rolling"),
        ("requirement", "not a requirement", "1.0.0"),
        ("requirement", "1", "not-a-version"),
        ("yank", "acme/web/1", "--hub", "http://127.0.0.1:1"),
        ("token", "create", "--kind", "resolve-only", "--org", "acme", "--description", "x"),
        ("token", "create", "--kind", "user", "--org", "acme", "--description", "x", "--requirement", "1"),
        ("token", "create", "--kind", "unheard-of", "--org", "acme", "--description", "x"),
        ("cache", "push", "/etc", "--name", "acme/web", "--hub", "http://127.0.0.1:1"),
        ("token", "create", "--kind", "user", "--org", "acme", "--description", "x", "--expires", "soon"),
    ],
)
def test_a_mistake_in_the_command_ends_with_2_and_says_what_to_do(
    person: Person, arguments: tuple[str, ...]
) -> None:
    done = person.piste(*arguments)
    assert (done.code, done.stdout) == (2, "")
    assert re.match(r"error: .+  \([a-z-]+\)\n", done.stderr)
    assert "\nhint: " in done.stderr
    assert "Traceback" not in done.stderr


def test_with_json_an_error_is_one_object_on_standard_error(person: Person) -> None:
    done = person.piste("resolve", "acme/web/1#x", "--json", "--hub", "http://127.0.0.1:1")
    assert (done.code, done.stdout) == (4, "")
    assert set(json.loads(done.stderr)["error"]) == {"ref", "message", "hint"}


def test_a_reader_that_has_enough_is_no_error() -> None:
    done = subprocess.run(
        ["sh", "-c", f"{PISTE} man | head -1"], capture_output=True, text=True, timeout=60, check=True
    )
    assert "Traceback" not in done.stderr
    assert done.stderr == ""


def test_single_requests_start_without_the_heavy_client() -> None:
    code = (
        "import sys; from piste.cli.main import run; run(['resolve', 'a/b/1#c', '--hub', 'http://127.0.0.1:1']);"
        "print([m for m in ('aiohttp', 'asyncio', 'rich.console', 'cryptography', 'backports.zstd')"
        " if m in sys.modules])"
    )
    argv = [sys.executable, "-c", code]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_the_password_of_a_database_is_not_taken_from_the_command_line(
    person: Person, tmp_path: Path
) -> None:
    url = "postgresql://hub:" + "secret" + "@127.0.0.1:1/hub"
    done = person.piste("hub", "check", "--data", str(tmp_path / "hub"), "--database", url)
    assert (done.code, "password-in-argument" in done.stderr) == (2, True)
    done = person.run(
        str(PISTE), "hub", "check", "--data", str(tmp_path / "hub"), extra={"PISTE_DATABASE": url}
    )
    assert "database-unreachable" in done.stderr
    assert "secret" not in done.stderr + done.stdout


def test_the_manual_page_has_every_verb_and_every_exit_status() -> None:
    text = "\n".join(page())
    assert all(f".SS piste {verb}" in text for verb in VERBS)
    assert text.count("\\fB") > 100
    assert ".SH EXIT STATUS" in text
    assert "\\fB\\fR" not in text, "an option without a name"
    assert text.isascii(), "what groff reads without being told the encoding"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completions_know_the_verbs(person: Person, shell: str) -> None:
    script = person.succeed("completion", shell).stdout
    assert all(verb in script for verb in VERBS)


def test_a_completion_script_is_one_that_bash_can_read(person: Person) -> None:
    script = person.succeed("completion", "bash").stdout
    done = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_completion_of_zsh_works_from_its_search_path_and_when_sourced(person: Person) -> None:
    script = person.succeed("completion", "zsh").stdout
    function = re.search(r"^(_\w+)\(\) \{$", script, re.MULTILINE)
    assert function is not None
    assert f'{function[1]} "$@"\n' in script
    assert f"compdef {function[1]} piste\n" in script


def test_requirements_are_explained_without_a_hub(person: Person) -> None:
    done = person.succeed("requirement", ">=1, <3", "1.0.0", "v2.9.9", "3.0.0", "2.0.0-rc.1", "--json")
    assert [row["matches"] for row in done.json] == [True, True, False, False]
    assert [row["version"] for row in done.json] == ["1.0.0", "v2.9.9", "3.0.0", "2.0.0-rc.1"]


def test_an_unexpected_error_is_still_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PISTE_DEBUG", raising=False)
    problem = main.as_problem(RuntimeError("odd"), [])
    assert problem is not None and problem.ref == "internal-error"
    monkeypatch.setenv("PISTE_DEBUG", "1")
    assert main.as_problem(RuntimeError("odd"), []) is None


def test_a_file_that_cannot_be_used_is_named(person: Person) -> None:
    done = person.piste("hub", "serve", "--data", "/proc/hub", "--listen", "127.0.0.1:0")
    assert (done.code, done.stdout) == (1, "")
    assert "/proc/hub can't be used: No such file or directory.  (file-not-usable)" in done.stderr


def test_an_operation_on_a_hub_that_is_not_there_says_so(person: Person) -> None:
    done = person.succeed("hub", "public-key", "--data", str(person.folder / "mistyped"))
    assert "There was no hub in" in done.stderr


def test_a_full_disk_says_so() -> None:
    import errno

    problem = main.as_problem(OSError(errno.ENOSPC, "No space left on device", "/x"), [])
    assert problem is not None and problem.ref == "disk-full"
    assert "/x" in problem.message
