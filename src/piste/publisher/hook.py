"""What Nix runs after each build: puts the built paths into a queue, on the disk, and nothing else.

Run as a file by a bare interpreter (`python -I -S hook.py QUEUE`), so that it takes milliseconds: it must
never import anything but these modules of the standard library. A build has nothing to fear from it: the
script that calls it ends well whatever happens here.
"""

import os
import sys
import time


def put(queue: str, text: str) -> None:
    """A file of its own for each build, which is there whole or not at all: no lock, nothing to tear."""
    name = f"{time.time_ns():020d}-{os.getpid()}"
    temporary, folder = f"{queue}/part/{name}", f"{queue}/new"
    file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        os.write(file, text.encode())
        os.fsync(file)
    finally:
        os.close(file)
    os.rename(temporary, f"{folder}/{name}")  # noqa: PTH104 - importing pathlib takes as long as all the rest
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def main() -> int:
    paths = os.environ.get("OUT_PATHS", "").split()
    try:
        if paths:
            put(sys.argv[1], "".join(f"{path}\n" for path in paths))
    except OSError as error:
        sys.stderr.write(f"piste: {sys.argv[1]} can't be written to: {error.strerror}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
