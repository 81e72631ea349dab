"""The NAR of a path that lies in the store, any part of it, without ever being whole anywhere.

The base of a delta: its bytes are made from the files again. What comes of it is held against a hash, so
nothing here has to be believed.
"""

import os
import stat
from bisect import bisect_right
from pathlib import Path

from piste.nix.nar import NarWriter


class StoredNar:
    """An index of what stands where, of some 200 bytes for each file, and reading by that. OSError and
    NarError for what can't be read."""

    def __init__(self, path: Path) -> None:
        self.size = 0
        self._starts: list[int] = []
        self._parts: list[bytes | str] = []  # what stands there, or the file that does
        self._held = bytearray()
        self._walk(NarWriter(), str(path))
        self._settle()

    def read(self, start: int, length: int) -> bytearray:
        """Bytes from a place on; fewer where the NAR ends, or where a file has become shorter."""
        wanted = bytearray(max(0, min(length, self.size - start)))
        view = memoryview(wanted)
        number = max(0, bisect_right(self._starts, start) - 1)
        done = 0
        while done < len(wanted):
            count = self._read_part(number, start + done - self._starts[number], view[done:])
            if not count:
                view.release()
                del wanted[done:]
                break
            done += count
            number += 1
        return wanted

    def _read_part(self, number: int, skipped: int, into: memoryview) -> int:
        """Read what one part has for a place; a file that was cut off ends the reading."""
        end = self._starts[number + 1] if number + 1 < len(self._starts) else self.size
        wanted = min(len(into), end - self._starts[number] - skipped)
        part = self._parts[number]
        if isinstance(part, bytes):
            into[:wanted] = part[skipped : skipped + wanted]
            return wanted
        with open(part, "rb", buffering=0) as file:  # noqa: PTH123 - names need not be text
            file.seek(skipped)
            count = 0
            while count < wanted and (more := file.readinto(into[count:wanted])):
                count += more
        return count if count == wanted else 0

    def _walk(self, writer: NarWriter, path: str) -> None:
        found = os.lstat(path)
        if stat.S_ISLNK(found.st_mode):
            self._held += writer.symlink(os.fsencode(os.readlink(path)))  # noqa: PTH115 - as above
        elif stat.S_ISREG(found.st_mode):
            self._held += writer.regular(found.st_size, bool(found.st_mode & stat.S_IXUSR))
            writer.skip(found.st_size)
            if found.st_size:
                self._settle()
                self._add(path, found.st_size)
        else:
            self._held += writer.directory()
            for name in sorted(map(os.fsencode, os.listdir(path))):  # noqa: PTH208 - as above
                self._held += writer.entry(name)
                self._walk(writer, f"{path}/{os.fsdecode(name)}")
        self._held += writer.end()

    def _settle(self) -> None:
        if self._held:
            self._add(bytes(self._held), len(self._held))
            self._held.clear()

    def _add(self, part: bytes | str, size: int) -> None:
        self._starts.append(self.size)
        self._parts.append(part)
        self.size += size
