"""How a release is chosen: the highest version that matches. Knows nothing of yanking or access."""

from collections.abc import Iterable

from piste.semver.requirement import Requirement
from piste.semver.version import Version


def best(requirement: Requirement, versions: Iterable[Version]) -> Version | None:
    """The matching version of the highest precedence; of equal ones (other metadata) the first that came.

    So give the newest publication first.
    """
    chosen: Version | None = None
    highest = b""
    for version in versions:
        key = version.sort_key()
        if key > highest and requirement.matches(version):
            chosen, highest = version, key
    return chosen
