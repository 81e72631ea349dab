"""The form of the audit log: what anybody with an export can check without the hub."""

import hashlib
import json

import pytest

from piste.wire.audit import (
    START,
    AuditEntry,
    AuditError,
    ChainReader,
    entry_hash,
    entry_text,
    export_line,
    verify_lines,
)


def _chain(count: int, previous: str = START) -> list[str]:
    lines = []
    for number in range(1, count + 1):
        entry = AuditEntry(
            number=number,
            at="2026-01-31T12:00:00.000000Z",
            kind="user",
            action="POST /api/v1/organizations",
            subject=f'organization "{number}' + '"},"hash":"',
            address="192.0.2.1",
            allowed=True,
            request_id="r",
            previous=previous,
        )
        text = entry_text(entry)
        previous = entry_hash(text)
        lines.append(export_line(text, previous))
    return lines


def test_a_line_is_json_and_its_hash_is_that_of_the_text_without_it() -> None:
    (line,) = _chain(1)
    said = json.loads(line)
    assert said["previous"] == START
    text = line.replace(f',"hash":"{said["hash"]}"', "")
    assert said["hash"] == hashlib.sha256(text.encode()).hexdigest()


def test_a_chain_holds_also_from_its_middle_on() -> None:
    lines = _chain(5)
    assert verify_lines(lines).count == 5
    reader = verify_lines(lines[2:])
    assert (reader.count, reader.number) == (3, 5)
    assert reader.hash == json.loads(lines[-1])["hash"]


@pytest.mark.parametrize(
    "tampered",
    [
        lambda lines: [lines[0], lines[2]],  # taken out
        lambda lines: [lines[0], lines[0], lines[1]],  # put in
        lambda lines: [lines[1], lines[0]],  # another order
        lambda lines: [lines[0].replace("192.0.2.1", "192.0.2.2"), *lines[1:]],  # changed
        lambda lines: [_chain(1, "f" * 64)[0], *lines[1:]],  # another beginning
        lambda lines: [lines[0], _chain(2, "f" * 64)[1]],  # changed, with its hash
        lambda lines: [lines[0][:-70] + "}"],
        lambda lines: ["{}"],
        lambda lines: [""],
    ],
)
def test_what_was_changed_breaks_the_chain(tampered: object) -> None:
    assert callable(tampered)
    with pytest.raises(AuditError):
        verify_lines(tampered(_chain(3)))


def test_a_field_that_comes_later_does_not_break_older_readers() -> None:
    (line,) = _chain(1)
    text = line[: line.index(',"hash"')] + ',"later":1}'
    assert ChainReader().take(export_line(text, entry_hash(text))).number == 1
