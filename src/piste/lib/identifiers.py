"""Identifiers that the program makes itself: UUID version 7 (RFC 9562), which sort by time."""

import secrets
import uuid


def new_id(now: int) -> str:
    """A UUIDv7 in its 36-character form; `now` in microseconds since the epoch."""
    milliseconds = now // 1000
    value = (milliseconds & (1 << 48) - 1) << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))
