"""Messages of a push of paths into a project's cache, apart from any release: ask, open, upload, finish.

Paths are declared and their NARs uploaded as in a publication (`wire.publication`).
"""

import msgspec

from piste.wire.publication import Declared


class WantedPaths(msgspec.Struct, frozen=True):
    """Which of these (base names) does the project lack? With keys: also those that lack their signatures."""

    paths: list[str]
    signing_keys: list[str] = []  # names of keys that publishers hold


class LackingPaths(msgspec.Struct, frozen=True):
    """Empty where nothing is to be done; else what is needed to declare them."""

    missing: list[str]  # base names, in the order in which they were asked for
    upstream_keys: dict[str, list[str]] = {}  # address -> NAME:BASE64; what they hold may be pinned


class OpenedPush(msgspec.Struct, frozen=True):
    id: str
    expires_at: int
    declared: Declared  # the answer to the paths that it was opened with


class FinishedPush(msgspec.Struct, frozen=True):
    """All of it is in the cache."""

    paths: int  # how many joined the project
