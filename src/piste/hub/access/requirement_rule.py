"""Which requirements a resolve-only token accepts. Pure: it is given texts and says yes or why not.

A token bound to requirement R accepts exactly R, spaces apart, or one exact version that satisfies R: `=`, an
optional `v`, a full version, optional pre-release and build metadata. Anything else is refused, also what
would choose the same release, so that nobody can ask a token questions about the project's versions.
"""

from piste.semver.requirement import Requirement, RequirementError, exact_version
from piste.semver.version import Version

ALLOWED_FORMS = "`{bound}` as it is, or one exact version that satisfies it, such as `=1.2.3`"


def allowed(bound: str, asked: str) -> bool:
    """Whether a token bound to `bound` may ask for `asked`; the release is then looked at by
    `release_agrees`."""
    if _without_spaces(bound) == _without_spaces(asked):
        return True
    version = _exact(asked)
    if version is None:
        return False
    try:
        return Requirement.parse(bound).matches(version)
    except RequirementError:
        return False


def release_agrees(bound: str, asked: str, release: str, minimum: str | None) -> bool:
    """Whether the release that was chosen is one that the token may have: its build metadata are those that
    were asked for, if any were, and it is not older than the token's minimum version."""
    found = Version.parse(release)
    if minimum is not None and found.simplified < Version.parse(minimum).simplified:
        return False
    version = _exact(asked)
    # The same text is a requirement also where it has the form of an exact version, and those ignore
    # metadata.
    if version is None or not version.build or _without_spaces(bound) == _without_spaces(asked):
        return True
    return version.build == found.build


def explain(bound: str) -> str:
    """The sentence that names the allowed forms."""
    return "This token may ask for " + ALLOWED_FORMS.format(bound=bound) + "."


def _exact(text: str) -> Version | None:
    return exact_version(text) if text.lstrip().startswith("=") else None


def _without_spaces(text: str) -> str:
    return "".join(text.split())
