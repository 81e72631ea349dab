"""The records of trust: a rule, and an identity whose signature was verified."""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

Claims = dict[str, list[str]]  # claim -> patterns, one of which has to agree


@dataclass(frozen=True)
class Identity:
    """What an issuer says of a run of its CI. `claims` holds those that are texts; others never agree with a
    pattern.
    """

    issuer: str
    subject: str
    audience: tuple[str, ...]
    claims: Mapping[str, str]
    use: str  # by which it is known again: exchanged once
    expires: int  # seconds since the epoch


class TrustRule(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `trust_rule`."""

    id: str
    organization: str
    project: str | None
    project_name: str
    issuer: str
    audience: str
    claims: str
    created_by: str | None
    created_at: int

    @property
    def patterns(self) -> Claims:
        return msgspec.json.decode(self.claims, type=Claims)
