"""Rules for the usual CIs: whose repository, by name and number; a protected ref; never a pull request.

The numbers outlive names: whoever takes over a name that became free has another number. Events are an
allow-list, since `pull_request_target` and its like run with the ref of the branch that is protected.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from piste.hub.errors import HubError
from piste.hub.identities.records import Claims
from piste.wire.identities import NewTrust

_REPOSITORY: Final = re.compile(r"[^\s:*/]+(/[^\s:*/]+)+")
_REF: Final = re.compile(r"refs/(heads|tags)/[^\s:]+")
_EVENTS: Final = ("push", "release", "schedule", "workflow_dispatch")
_DEFAULT_REFS: Final = ("refs/heads/main",)


@dataclass(frozen=True)
class Preset:
    """How one CI names what every rule should bind. `number` is required where the CI says it."""

    issuer: str | None
    repository: str
    number: str
    ref: str
    events: Mapping[str, tuple[str, ...]]
    number_required: bool = True


PRESETS: Final[Mapping[str, Preset]] = {
    "github": Preset(
        issuer="https://token.actions.githubusercontent.com",
        repository="repository",
        number="repository_id",
        ref="ref",
        events={"event_name": _EVENTS},
    ),
    "gitlab": Preset(
        issuer="https://gitlab.com",
        repository="project_path",
        number="project_id",
        ref="ref_path",
        events={"pipeline_source": ("push", "schedule", "web")},
    ),
    # Forgejo's identities name the repository only; its number is bound where an instance gives it.
    "forgejo": Preset(
        issuer=None,
        repository="repository",
        number="repository_id",
        ref="ref",
        events={"event_name": _EVENTS},
        number_required=False,
    ),
}


def expand(asked: NewTrust) -> tuple[str, Claims]:
    """Issuer and claims of a preset; further claims of the message only narrow it."""
    preset = PRESETS.get(asked.preset or "")
    if preset is None:
        raise HubError(
            "bad-trust", f"{(asked.preset or '')[:40]!r} is no preset.", hint=f"One of {', '.join(PRESETS)}."
        )
    issuer = asked.issuer or preset.issuer
    if issuer is None:
        raise HubError(
            "bad-trust",
            f"The preset {asked.preset} needs the issuer's address.",
            hint="For Forgejo it is the address of the instance and /api/actions.",
        )
    return issuer, _claims(preset, asked)


def _claims(preset: Preset, asked: NewTrust) -> Claims:
    if asked.repository is None or not _REPOSITORY.fullmatch(asked.repository):
        raise HubError("bad-trust", "A preset needs the repository.", hint="OWNER/NAME, as the CI spells it.")
    number = asked.repository_id
    if (number is None and preset.number_required) or (number is not None and not _is_number(number)):
        raise HubError(
            "bad-trust",
            "A preset needs the number of the repository, since its name may become somebody else's.",
            hint="GitHub: `gh api repos/OWNER/NAME --jq .id`; GitLab: the project's page shows it.",
        )
    refs = asked.refs or list(_DEFAULT_REFS)
    if not all(_REF.fullmatch(ref) for ref in refs):
        raise HubError("bad-trust", "A ref is named in full.", hint="For example refs/heads/main.")
    claims: Claims = {preset.repository: [asked.repository], preset.ref: refs, "ref_protected": ["true"]}
    claims |= {name: list(values) for name, values in preset.events.items()}
    if number is not None:
        claims[preset.number] = [number]
    if asked.environment is not None:
        claims["environment"] = [asked.environment]
    if doubled := claims.keys() & asked.claims.keys():
        raise HubError(
            "bad-trust",
            f"The preset says the claim {min(doubled)} already.",
            hint="Without a preset a rule says them all.",
        )
    return claims | asked.claims


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 20
