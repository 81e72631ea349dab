"""zstd, whichever module this Python has it in: a part of the standard library from 3.14 on, a package before."""

import sys

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["zstd"]
