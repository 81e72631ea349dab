"""The listing of a NAR: what a binary cache serves as `<hash part>.ls`, so that single files can be found.

Must never hold up a NAR that is fine: where a listing cannot be made, there is none.
"""

import json
import re
from json.encoder import encode_basestring_ascii
from typing import Any, Final

# A quarter of a million files take about 20 MB.
LISTING_LIMIT: Final = 32 * 1024 * 1024

DEBUG_FOLDER: Final = "lib/debug/.build-id"
BUILD_ID: Final = re.compile(r"[0-9a-f]{40}")
_MARK: Final = b'".build-id"'


def build_ids(listing: bytes) -> tuple[str, ...]:
    """The build ids of which a listing has the debug information: it lies in one place in every package."""
    if _MARK not in listing:
        return ()
    folder: Any = json.loads(listing)["root"]
    for name in DEBUG_FOLDER.split("/"):
        folder = folder.get("entries", {}).get(name, {})
    return tuple(
        start + rest.removesuffix(".debug")
        for start, below in folder.get("entries", {}).items()
        for rest in below.get("entries", {})
        if rest.endswith(".debug") and BUILD_ID.fullmatch(start + rest.removesuffix(".debug"))
    )


def debug_member(build_id: str) -> str:
    """Where the debug information of a build id lies within its package."""
    return f"{DEBUG_FOLDER}/{build_id[:2]}/{build_id[2:]}.debug"


class ListingWriter:
    """Writes the JSON along the way, which takes a tenth of the memory that a tree of objects would.

    There is no listing (None) when it would pass its limit, or when a name or a target is not UTF-8.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._text: bytearray | None = bytearray()

    def json(self) -> bytes | None:
        return None if self._text is None else b'{"root":' + self._text + b',"version":1}'

    def regular(self, size: int, offset: int, *, executable: bool) -> None:
        flag = '"executable":true,' if executable else ""
        self._add(f'{{{flag}"narOffset":{offset},"size":{size},"type":"regular"}}')

    def symlink(self, target: bytes) -> None:
        if (text := self._quote(target)) is not None:
            self._add(f'{{"target":{text},"type":"symlink"}}')

    def directory(self) -> None:
        self._add('{"entries":{')

    def entry(self, name: bytes, *, first: bool) -> None:
        if (text := self._quote(name)) is not None:
            self._add(f"{text}:" if first else f",{text}:")

    def end_of_directory(self) -> None:
        self._add('},"type":"directory"}')

    def _add(self, text: str) -> None:
        if self._text is None:
            return
        self._text += text.encode()
        if len(self._text) > self._limit:
            self._text = None

    def _quote(self, text: bytes) -> str | None:
        try:
            return encode_basestring_ascii(text.decode())
        except UnicodeDecodeError:
            self._text = None
            return None
