"""What `fh` is answered with: the rows and objects that it decodes, made of Piste's own messages. Pure."""

from typing import Final

import msgspec

from piste.lib.clock import SECOND
from piste.wire.organizations import Status

# Where a credential has no end, since a number must be there: the last second of the year 9999.
NEVER: Final = 253_402_300_799


class CliStatus(msgspec.Struct, frozen=True):
    gh_name: str
    expires_at: int  # seconds since the epoch


def cli_status(status: Status) -> CliStatus:
    """For what is no person's, the organization stands in place of a user."""
    expires = NEVER if status.expires_at is None else status.expires_at // SECOND
    return CliStatus(status.user or "", expires)
