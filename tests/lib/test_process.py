"""Starting programs: what they are given, what comes back, what is said when they fail."""

import os
import sys
import time
from pathlib import Path

import pytest

from piste.lib import process
from piste.lib.errors import PisteError


def test_output_is_data_and_talk_is_kept_apart() -> None:
    lines: list[str] = []
    done = process.run(["sh", "-c", "cat; echo said >&2"], data=b"\0" * 300_000, on_stderr=lines.append)
    assert done.stdout == b"\0" * 300_000
    assert (done.stderr, lines) == ("said\n", ["said"])


def test_no_credential_of_ours_reaches_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PISTE_TOKEN", "HCLOUD_TOKEN", "GITHUB_TOKEN", "LD_PRELOAD", "PYTHONPATH", "GIT_DIR"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("NIX_CONFIG", "cores = 1")
    seen = process.run(["env"], extra={"GIVEN": "1"}).text.splitlines()
    assert not [line for line in seen if "secret" in line]
    assert {"NIX_CONFIG=cores = 1", "GIVEN=1", f"PATH={os.environ['PATH']}"} <= set(seen)


def test_a_failure_quotes_the_last_lines() -> None:
    script = "for i in $(seq 100); do echo line $i >&2; done; exit 3"
    with pytest.raises(process.CommandError) as caught:
        process.run(["sh", "-c", script])
    assert caught.value.ref == "command-failed"
    assert "status 3" in caught.value.message
    assert "line 100" in caught.value.message and "line 1\n" not in caught.value.message
    assert process.run(["sh", "-c", "exit 3"], check=False).code == 3


def test_what_a_program_says_is_kept_in_its_last_part_only() -> None:
    done = process.run([sys.executable, "-c", "import sys; sys.stderr.write('x' * 5_000_000 + 'end')"])
    assert len(done.stderr) <= 64 * 1024 and done.stderr.endswith("end")


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(PisteError) as caught:
        process.run(["no-such-program"])
    assert (caught.value.ref, "no-such-program" in caught.value.message) == ("command-missing", True)
    with pytest.raises(PisteError) as caught:
        process.run(["true"], cwd=tmp_path / "none")
    assert caught.value.ref == "no-such-folder"
    (tmp_path / "plain").write_text("no program")
    with pytest.raises(PisteError) as caught:
        process.run([str(tmp_path / "plain")])
    assert caught.value.ref == "command-missing"


def test_a_program_that_takes_too_long_is_ended() -> None:
    start = time.monotonic()
    with pytest.raises(PisteError) as caught:
        process.run(["sleep", "60"], timeout=0.1)
    assert caught.value.ref == "command-timeout"
    assert time.monotonic() - start < 10


def test_a_conversation_through_pipes_ends_with_the_program() -> None:
    child = process.spawn(["sh", "-c", "read line; echo got $line; echo done >&2"])
    child.stdin.write(b"this\n")
    child.stdin.flush()
    assert child.stdout.readline() == b"got this\n"
    assert child.wait(10)
    assert child.close() == 0
    assert child.stderr == "done\n"


def test_closing_ends_a_program_that_would_go_on() -> None:
    child = process.spawn(["sleep", "60"])
    assert child.running
    assert child.close() != 0
    assert not child.running
