"""The audit log: one entry as text, and the chain that entries form.

An entry names the SHA-256 of the text of the one before it, so whoever keeps the last hash that was seen
notices when anything before it is changed, taken out or put in. A line of the export is the text of the entry
with its own hash added as the last field.
"""

import hashlib
from collections.abc import Iterable
from typing import Final

import msgspec

START: Final = "0" * 64  # what the first entry names
_LINE_END: Final = len(',"hash":"') + 64 + len('"}')


class AuditError(ValueError):
    """A line is no entry, or does not continue the chain."""


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who did what on what from where, and whether it was allowed. No field ever holds a secret."""

    number: int
    at: str  # RFC 3339 in UTC, with microseconds
    organization: str | None = None  # name; absent in the hub's own chain
    kind: str  # of the credential: nobody, user, device, …; `operator` for commands on the hub's machine
    token: str | None = None  # id
    person: str | None = None  # id
    name: str | None = None  # the person's, as it was then; the subject of an identity
    action: str  # method and pattern of the route, or the command
    permission: str | None = None
    project: str | None = None
    subject: str | None = None  # what exactly was changed
    address: str
    allowed: bool
    reason: str | None = None  # why it was refused
    count: int = 1  # as often within a moment
    request_id: str
    previous: str  # hash of the entry before
    issuer: str | None = None  # of the identity whose subject `name` is


def entry_text(entry: AuditEntry) -> str:
    return msgspec.json.encode(entry).decode()


def entry_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def export_line(text: str, hash_: str) -> str:
    """One line of NDJSON, without its end."""
    return f'{text[:-1]},"hash":"{hash_}"}}'


def read_line(line: str) -> tuple[AuditEntry, str]:
    """The entry of a line and its hash, which is compared; AuditError if it isn't the entry's."""
    text, end = line[:-_LINE_END] + "}", line[-_LINE_END:]
    hash_ = entry_hash(text)
    if end != f',"hash":"{hash_}"}}':
        raise AuditError("a line does not have the hash of its entry")
    try:
        return msgspec.json.decode(text, type=AuditEntry), hash_
    except msgspec.DecodeError as error:
        raise AuditError(f"a line is no entry: {error}") from error


class ChainReader:
    """Follows one chain, line by line. It may begin anywhere: what came before is then taken as said."""

    def __init__(self) -> None:
        self.number: int | None = None
        self.hash = START
        self.count = 0

    def take(self, line: str) -> AuditEntry:
        """AuditError where the chain breaks."""
        entry, hash_ = read_line(line)
        if self.number is None:
            if entry.number == 1 and entry.previous != START:
                raise AuditError("entry 1 names an entry before it")
        elif entry.number != self.number + 1:
            raise AuditError(f"entry {entry.number} follows entry {self.number}")
        elif entry.previous != self.hash:
            raise AuditError(f"entry {entry.number} does not continue entry {self.number}")
        self.number, self.hash = entry.number, hash_
        self.count += 1
        return entry


def verify_lines(lines: Iterable[str]) -> ChainReader:
    """A whole export; AuditError where it breaks."""
    reader = ChainReader()
    for line in lines:
        reader.take(line)
    return reader
