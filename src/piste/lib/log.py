"""Structured logs: one JSON object a line on standard error. A token that slips into a value is blotted out.

Only for programs that run for long; commands talk to people through cli/show.py.
"""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, Final

import msgspec
import structlog

_TOKEN: Final = re.compile(r"piste_(user|resolve|closure)_[A-Za-z0-9_-]+")


def configure(level: str = "info") -> None:
    """Set up structlog for this process."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def render(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
    """The line. Nothing should ever log a token; this is the last resort."""
    line = msgspec.json.encode(event, enc_hook=repr).decode()
    return _TOKEN.sub(r"piste_\1_…", line) if "piste_" in line else line
