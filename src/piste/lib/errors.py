"""The errors that a person is meant to read.

    PisteError            exit 1   something failed
    ├── UsageError        exit 2   the command or the configuration is wrong
    ├── RolledBackError   exit 3   a deployment failed, and the host runs what it ran before
    ├── UnreachableError  exit 4   the outcome is unknown, or the other side can't be reached
    ├── BlockedError      exit 5   something must happen first: a reboot, a window, an approval
    ├── AccessError       exit 6   the credential does not allow this
    └── StrandedError     exit 7   the way back failed as well: a person is needed

Every error has a stable reference in kebab-case, a sentence, and, where one is known, a hint that says what
to do. Nothing in here may ever hold a secret.
"""

import re
from collections.abc import Mapping
from typing import ClassVar, Final

_REF: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


class PisteError(Exception):
    """An error with a stable reference, a message for people, a hint and context (name -> value)."""

    exit_code: ClassVar[int] = 1

    def __init__(
        self, ref: str, message: str, *, hint: str | None = None, context: Mapping[str, str] | None = None
    ) -> None:
        if not _REF.fullmatch(ref):
            raise ValueError(f"not a reference of an error: {ref!r}")
        super().__init__(message)
        self.ref = ref
        self.message = message
        self.hint = hint
        self.context = dict(context or {})


class UsageError(PisteError):
    exit_code = 2


class RolledBackError(PisteError):
    exit_code = 3


class UnreachableError(PisteError):
    exit_code = 4


class BlockedError(PisteError):
    exit_code = 5


class AccessError(PisteError):
    exit_code = 6


class StrandedError(PisteError):
    exit_code = 7
