"""What was written stays, what was cut short is passed over, and nothing else is."""

import resource
from pathlib import Path

import pytest

from piste.host.journal import Journal
from piste.host.records import Kind, Result, State
from piste.lib.errors import PisteError

KIND = Kind.NIXOS


def write_one(journal: Journal, path: str) -> None:
    with journal.writer("a test") as writer:
        deployment = writer.begin(kind=KIND, store_path=path)
        writer.move(deployment, State.FINISHED, result=Result.COMMITTED)


def test_a_line_that_a_crash_cut_short_costs_only_itself(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    write_one(journal, "/nix/store/a")
    with (tmp_path / "deployments.ndjson").open("ab") as file:
        file.write(b'{"deployment":"x","at":1,"sta')
    write_one(journal, "/nix/store/b")
    assert [one.store_path for one in journal.deployments()] == ["/nix/store/b", "/nix/store/a"]


def test_a_line_that_was_changed_is_an_error_that_names_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    write_one(journal, "/nix/store/a")
    file = tmp_path / "deployments.ndjson"
    file.write_text(file.read_text().replace('"received"', '"recieved"'))
    with pytest.raises(PisteError, match="Line 1 of"):
        journal.deployments()


def test_a_deployment_without_an_end_is_found(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    write_one(journal, "/nix/store/a")
    assert journal.interrupted() is None
    with journal.writer("a test") as writer:
        left = writer.move(
            writer.begin(kind=KIND, store_path="/nix/store/b"), State.TESTING, previous="/nix/store/a"
        )
    assert journal.interrupted() == left


def test_a_host_that_never_deployed_has_an_empty_history(tmp_path: Path) -> None:
    assert Journal(tmp_path / "nowhere").deployments() == []


def test_a_line_for_which_there_was_no_room_leaves_nothing_that_the_next_is_glued_to(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with journal.writer("a test") as writer:
        deployment = writer.begin(kind=KIND, store_path="/nix/store/a")
        room = (tmp_path / "deployments.ndjson").stat().st_size + 100
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
        try:
            with pytest.raises(OSError):
                writer.move(deployment, State.TESTING, reason="long " * 100)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        writer.move(deployment, State.FINISHED, result=Result.FAILED)
    assert [(one.state, one.result) for one in journal.deployments()] == [(State.FINISHED, Result.FAILED)]
