"""The one shape of an error, on every endpoint of Piste's own API."""

import msgspec


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """What went wrong: a stable kebab-case reference, a sentence, and what to do about it."""

    ref: str
    message: str
    hint: str | None = None
    context: dict[str, str] = {}
    request_id: str | None = None


class ErrorBody(msgspec.Struct, frozen=True):
    """The body of every answer of 4xx and 5xx: `{"error": {...}}`."""

    error: Problem
