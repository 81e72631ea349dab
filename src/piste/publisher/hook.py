"""What Nix runs after each build: puts the built paths into a queue, on the disk, and nothing else.

Run as a file by a bare interpreter (`python -I -S hook.py QUEUE`), so that it takes milliseconds: it must
never import anything but these modules of the standard library. A build has nothing to fear from it: the
script that calls it ends well whatever happens here.
"""

import errno
import os
import sys
import time

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def put(queue: str, text: str) -> None:
    """A file of its own for each build, which is there whole or not at all: no lock, nothing to tear."""
    name = f"{time.time_ns():020d}-{os.getpid()}"
    # Root may be the one that runs this, in a folder of somebody else: no link there leads it elsewhere.
    part, new = (os.open(f"{queue}/{each}", _FOLDER) for each in ("part", "new"))
    file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=part)
    data = text.encode()
    if os.write(file, data) < len(data):
        raise OSError(errno.ENOSPC, "no space left")
    os.fsync(file)
    os.close(file)
    os.rename(name, name, src_dir_fd=part, dst_dir_fd=new)
    os.fsync(new)


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
