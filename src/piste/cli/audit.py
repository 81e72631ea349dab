"""`piste audit`: the audit log, as lines of JSON, oldest first."""

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated

from cyclopts import Parameter

from piste.cli import show
from piste.cli.arguments import parse_duration
from piste.cli.options import Hub, TokenFile, connect
from piste.client.api import HubClient
from piste.lib.errors import PisteError, UsageError
from piste.wire.audit import AuditError, ChainReader

_NOT_FOR_YOU = ("forbidden", "not-found")


def audit(
    *,
    org: Annotated[str | None, Parameter(help="The organization; else all that you may read.")] = None,
    since: Annotated[
        str | None, Parameter(help="`7d` for the last week, or a time such as 2026-01-31.")
    ] = None,
    verify: Annotated[
        bool, Parameter(negative="", help="Also check that no entry was changed, taken out or put in.")
    ] = False,
    hub: Hub = None,
    token_file: TokenFile = None,
) -> None:
    """Print who did what on what from where, and what was refused: one JSON object a line.

    Each entry names the hash of the one before it. With --verify the chain is checked, and the hash of its
    last entry said: whoever keeps it can tell later that what came before is still the same.

    For example:

        piste audit --org acme --since 7d --verify

        piste audit --org acme | jq -c 'select(.allowed | not)'
    """
    start = read_since(since) if since else None
    with connect(hub, token_file) as client:
        for name, lines in _logs(client, org, start):
            reader = ChainReader()
            for line in lines:
                if verify:
                    _take(reader, line, name)
                show.line(line)
            if verify:
                last = f", the last is {reader.number} {reader.hash}" if reader.count else ""
                show.say(f"{name}: the chain of {reader.count} entries holds{last}.")


def read_since(text: str) -> int:
    """Microseconds since the epoch; a time without a zone is in UTC."""
    if re.fullmatch(r"[0-9]+[a-z]", text.strip()):
        return time.time_ns() // 1000 - parse_duration(text) * 1_000_000
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise UsageError(
            "bad-duration", f"{text!r} is no time.", hint="For example 7d, 2026-01-31 or 2026-01-31T12:00Z."
        ) from error
    zoned = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0, int(zoned.timestamp() * 1_000_000))


def _logs(client: HubClient, org: str | None, since: int | None) -> Iterator[tuple[str, Iterator[str]]]:
    """The logs by name: that of the organization, or the hub's own and those of all organizations, as far as
    they are for the caller."""
    if org is not None:
        yield org, client.audit(org, since)
        return
    found = 0
    for name in (None, *client.status().organizations):
        lines = client.audit(name, since)
        try:
            first = next(lines, None)
        except PisteError as error:
            if error.ref in _NOT_FOR_YOU:
                continue
            raise
        found += 1
        yield name or "the hub", _again(first, lines)
    if not found:
        raise PisteError("forbidden", "No audit log is for you.", hint="It is for admins of an organization.")


def _again(first: str | None, rest: Iterator[str]) -> Iterator[str]:
    if first is not None:
        yield first
        yield from rest


def _take(reader: ChainReader, line: str, name: str) -> None:
    try:
        reader.take(line)
    except AuditError as error:
        raise PisteError(
            "audit-broken",
            f"The audit log of {name} was changed: {error}.",
            hint="Keep what you have exported before, and ask whoever runs the hub.",
        ) from error
