"""Streams of bytes as asynchronous iterators."""

from collections.abc import AsyncIterable, AsyncIterator
from typing import Final

PIECE: Final = 256 * 1024


async def gathered(pieces: AsyncIterable[bytes], size: int = PIECE) -> AsyncIterator[bytes]:
    """The same bytes in pieces of at least `size`, worth a hop to a thread; the last may be shorter."""
    held: list[bytes] = []
    length = 0
    async for piece in pieces:
        held.append(piece)
        length += len(piece)
        if length >= size:
            yield b"".join(held)
            held, length = [], 0
    if length:
        yield b"".join(held)
