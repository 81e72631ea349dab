"""A part of a file into a connection by the kernel, without its bytes passing through this process.

The socket must have nothing of its own left to write. What is not in the page cache is read by a thread
first, so that the event loop never waits for a disk.
"""

import asyncio
import errno
import os
import socket
from typing import Final

from piste.lib.files import is_in_memory

CHUNK: Final = 1 << 20  # in one go; other connections have their turn after it
_COLD: Final = 512 << 10
_NOT_KNOWN: Final = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


async def send_part(out: socket.socket, file: int, start: int, count: int, stall: float) -> None:
    """`count` bytes from `start` on. TimeoutError when the other side takes nothing for `stall` seconds,
    OSError when it has gone or the file has become shorter."""
    end = start + count
    while start < end:
        wanted = min(CHUNK, end - start)
        if not is_at_hand(file, start, wanted):
            wanted = min(_COLD, wanted)
            await asyncio.to_thread(_read, file, start, wanted)
        try:
            sent = os.sendfile(out.fileno(), file, start, wanted)
        except BlockingIOError:
            sent = -1
        if sent == 0:
            raise OSError(errno.EIO, "a file became shorter while it was sent")
        start += max(sent, 0)
        if sent < wanted:
            async with asyncio.timeout(stall):
                await writable(out)
        elif start < end:
            await asyncio.sleep(0)  # the turn of others


async def writable(out: socket.socket) -> None:
    """Until the socket takes more. It must not be one that a transport owns: give a duplicate."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_writer(out.fileno(), _wake, ready)
    try:
        await ready
    finally:
        loop.remove_writer(out.fileno())


def is_at_hand(file: int, start: int, count: int) -> bool:
    """Whether the first and the last of these bytes can be had without waiting for a disk."""
    return all(_is_cached(file, place) for place in (start, start + count - 1))


def _is_cached(file: int, place: int) -> bool:
    try:
        os.preadv(file, [bytearray(1)], place, os.RWF_NOWAIT)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NOT_KNOWN:
            raise
        return is_in_memory(os.fstat(file).st_dev)
    return True


def _read(file: int, start: int, count: int) -> None:
    """Into the page cache."""
    end = start + count
    while start < end:
        read = len(os.pread(file, min(256 << 10, end - start), start))
        if read == 0:
            return
        start += read


def _wake(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)
