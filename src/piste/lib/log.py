"""Structured logs: one JSON object a line on standard error. A token that slips into a value is blotted out.

Only for programs that run for long; commands talk to people through cli/show.py.
"""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, Final

import structlog

_TOKEN: Final = re.compile(r"piste_(user|resolve|closure)_[A-Za-z0-9_-]+")


def configure(level: str = "info") -> None:
    """Set up structlog for this process."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            without_secrets,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def without_secrets(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The last resort; nothing should ever log a token."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = _TOKEN.sub(r"piste_\1_…", value)
    return event
