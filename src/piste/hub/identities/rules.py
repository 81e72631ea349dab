"""Which rules may be made, and which identity agrees with one. Pure; HubError says what is wrong."""

import re
from collections.abc import Mapping
from typing import Final

from piste.hub.egress.rules import EgressError, parse_target
from piste.hub.errors import HubError
from piste.hub.identities.records import Claims, Identity, TrustRule

MAX_RULES: Final = 100  # of one organization
_MAX_CLAIMS: Final = 20
_MAX_PATTERNS: Final = 20  # of one claim
_MAX_TEXT: Final = 512
_NAME: Final = re.compile(r"[A-Za-z0-9_.:/-]{1,128}")
_SEPARATORS: Final = re.compile(r"([:/])")

# Checked for every identity, so a pattern for them would only seem to say something.
_STANDARD: Final = frozenset({"iss", "aud", "exp", "nbf", "iat", "jti"})
# Claims that say how something ran, not whose it is: at a public issuer anybody has them.
_CIRCUMSTANCES: Final = frozenset(
    {
        "actor",
        "actor_id",
        "base_ref",
        "deployment_tier",
        "environment",
        "environment_protected",
        "event_name",
        "head_ref",
        "job_workflow_ref",
        "job_workflow_sha",
        "pipeline_source",
        "ref",
        "ref_path",
        "ref_protected",
        "ref_type",
        "repository_visibility",
        "project_visibility",
        "run_attempt",
        "runner_environment",
        "sha",
        "user_email",
        "user_id",
        "user_login",
        "workflow",
        "workflow_sha",
    }
)
_FIRST_SEGMENT: Final = re.compile(r"[^:/*]+[:/]")
_FIRST_TWO_SEGMENTS: Final = re.compile(r"[^:/*]+[:/][^:/*]+[:/]")


def check_issuer(text: str) -> str:
    """An issuer's address. It is compared to the letter, so a slash at its end stays."""
    try:
        target = parse_target(text)
    except EgressError as error:
        raise HubError(
            "bad-trust",
            "This is not the address of an issuer.",
            hint="It begins with https:// and has neither user name nor fragment.",
        ) from error
    if "?" in target.path:
        raise HubError("bad-trust", "The address of an issuer has no query.")
    return text


def check_audience(text: str) -> str:
    if not 0 < len(text) <= _MAX_TEXT or not text.isprintable() or "*" in text:
        raise HubError(
            "bad-trust", "The audience is one exact text.", hint="Left out, it is the hub's host name."
        )
    return text


def check_claims(claims: Claims) -> Claims:
    """Claims whose patterns can be read, and which name whose runs are meant."""
    if not 0 < len(claims) <= _MAX_CLAIMS:
        raise HubError("bad-trust", f"A rule has from one to {_MAX_CLAIMS} claims.")
    for name, patterns in claims.items():
        if not _NAME.fullmatch(name) or name in _STANDARD:
            raise HubError("bad-trust", f"{name[:128]!r} is not a claim that a rule can name.")
        if not 0 < len(patterns) <= _MAX_PATTERNS:
            raise HubError("bad-trust", f"The claim {name} has from one to {_MAX_PATTERNS} patterns.")
        for pattern in patterns:
            _check_pattern(name, pattern)
    if not any(_binds(name, patterns) for name, patterns in claims.items()):
        raise HubError(
            "bad-trust",
            "This rule would trust runs of everybody who uses the issuer.",
            hint="Name whose runs are meant, exactly: repository_id, project_id, or the whole of sub.",
        )
    return claims


def _check_pattern(name: str, pattern: str) -> None:
    if not 0 < len(pattern) <= _MAX_TEXT or not pattern.isprintable() or "**" in pattern:
        raise HubError(
            "bad-trust",
            f"The claim {name} has a pattern that can't be used.",
            hint="A printable text; `*` stands for one or more characters other than `:` and `/`.",
        )


def _binds(name: str, patterns: list[str]) -> bool:
    """Whether a claim says whose runs are meant: by exact texts, or by a whole owner before the first `*`."""
    if name in _CIRCUMSTANCES:
        return False
    owner = _FIRST_TWO_SEGMENTS if name == "sub" else _FIRST_SEGMENT
    return all("*" not in pattern or owner.match(pattern) is not None for pattern in patterns)


def agrees(rule: TrustRule, identity: Identity) -> str | None:
    """None if the rule trusts this identity; else why not, for the hub's log."""
    if rule.issuer != identity.issuer:
        return "iss"
    if rule.audience not in identity.audience:
        return "aud"
    return _first_difference(rule.patterns, identity.claims)


def _first_difference(wanted: Claims, claims: Mapping[str, str]) -> str | None:
    for name, patterns in wanted.items():
        value = claims.get(name)
        if value is None or not any(matches(pattern, value) for pattern in patterns):
            return name
    return None


def matches(pattern: str, value: str) -> bool:
    """Whether a text agrees with a pattern, part by part between `:` and `/`, which no `*` stands for."""
    if len(value) > 4 * _MAX_TEXT:
        return False
    parts, found = _SEPARATORS.split(pattern), _SEPARATORS.split(value)
    return len(parts) == len(found) and all(map(_part_matches, parts, found))


def _part_matches(pattern: str, value: str) -> bool:
    first, *rest = pattern.split("*")
    if not rest:
        return pattern == value
    if not value.startswith(first) or not value.isprintable():
        return False
    place = len(first)
    for piece in rest[:-1]:
        found = value.find(piece, place + 1)
        if found < 0:
            return False
        place = found + len(piece)
    return value.endswith(rest[-1]) and len(value) - len(rest[-1]) > place
