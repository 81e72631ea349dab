"""The statement: what an organization's key says about one output of one release. Format `piste-statement-1`.

A store path's own signature does not say which release the path belongs to. A statement does: it binds
project, version, sequence number, attribute path, store path and the manifest's digest. There is one for
each output, so that a credential for one output learns nothing of the others.

The text is JSON without white space, fields in the order given here; the Ed25519 signature, `NAME:BASE64`,
is over its UTF-8 bytes. A Nix fingerprint starts with `1;`, a statement with
`{"format":"piste-statement-1"`: neither can be taken for the other. Sequence numbers of a project only
grow: a host that has committed number n refuses a smaller one, unless an exact version was asked for.
"""

from typing import Final

import msgspec

FORMAT: Final = "piste-statement-1"


class Statement(msgspec.Struct, frozen=True):
    format: str
    organization: str
    project: str
    version: str
    sequence: int
    attribute_path: str
    store_path: str
    system: str | None
    manifest: str  # sha256:<hex>


class StatementError(ValueError):
    """The text is not a statement."""


def encode_statement(statement: Statement) -> str:
    """The text that is signed."""
    return msgspec.json.encode(statement).decode()


def decode_statement(text: str) -> Statement:
    """Decode a text whose signature was checked before; StatementError says what is wrong."""
    try:
        statement = msgspec.json.decode(text, type=Statement)
    except msgspec.DecodeError as error:
        raise StatementError(f"the statement can't be read: {error}") from error
    if statement.format != FORMAT:
        raise StatementError(
            f"the statement has the format {statement.format!r}; this version reads {FORMAT!r}"
        )
    return statement
