"""The identity that a CI gives to a run: asked for where the CI has a place for it, or handed over by the
workflow. The hub exchanges it for a session; nothing here is ever stored or shown.
"""

import http.client
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlencode, urlsplit

import msgspec

from piste.client.address import parse_address, require_safe
from piste.client.credentials import check_token, read_token
from piste.client.hub import connect
from piste.lib.errors import AccessError, PisteError, UnreachableError

_TIMEOUT: Final = 30.0
_LONGEST_ANSWER: Final = 64 * 1024


class _Answer(msgspec.Struct):
    value: str


@dataclass(frozen=True)
class CiIdentity:
    """Where the identity comes from. One that was handed over can be exchanged once; a CI that can be asked
    gives a new one each time.
    """

    text: str | None = field(default=None, repr=False)
    request_url: str = ""
    request_token: str = field(default="", repr=False)

    @property
    def renewable(self) -> bool:
        return self.text is None

    def token(self, audience: str) -> str:
        """The JWT; for an audience where the CI can be told one."""
        return self.text if self.text is not None else self._ask(audience)

    def _ask(self, audience: str) -> str:
        parts = urlsplit(self.request_url)
        address = parse_address(f"{parts.scheme}://{parts.netloc}")
        require_safe(address)
        query = "&".join(filter(None, (parts.query, urlencode({"audience": audience}))))
        headers = {"Authorization": f"bearer {self.request_token}", "Accept": "application/json"}
        connection = connect(address, _TIMEOUT)
        try:
            connection.request("GET", f"{parts.path or '/'}?{query}", headers=headers)
            response = connection.getresponse()
            data = response.read(_LONGEST_ANSWER)
        except (OSError, http.client.HTTPException) as error:
            raise UnreachableError(
                "identity-unavailable",
                f"The CI's place for identities, {address.url}, can't be reached: {error}.",
                hint="Try again; the place is said by ACTIONS_ID_TOKEN_REQUEST_URL.",
            ) from error
        finally:
            connection.close()
        if response.status != 200:
            raise AccessError(
                "identity-unavailable",
                f"The CI gave no identity: {address.url} answered with status {response.status}.",
                hint="On GitHub the job needs `permissions: id-token: write`.",
            )
        try:
            return check_token(msgspec.json.decode(data, type=_Answer).value, "The CI's answer")
        except msgspec.DecodeError as error:
            raise PisteError("bad-answer", f"{address.url} answered with no identity.") from error


def find_identity() -> CiIdentity | None:
    """The identity of this run: PISTE_ID_TOKEN, PISTE_ID_TOKEN_FILE, or what GitHub and Forgejo have a job
    ask for.
    """
    if text := os.environ.get("PISTE_ID_TOKEN"):
        return CiIdentity(check_token(text, "PISTE_ID_TOKEN"))
    if name := os.environ.get("PISTE_ID_TOKEN_FILE"):
        return CiIdentity(read_token(Path(name)))
    url = os.environ.get("ACTIONS_ID_TOKEN_REQUEST_URL")
    token = os.environ.get("ACTIONS_ID_TOKEN_REQUEST_TOKEN")
    return CiIdentity(request_url=url, request_token=token) if url and token else None


def audience_for(host: str) -> str:
    """For whom the identity is asked: the hub's host name, unless PISTE_ID_TOKEN_AUDIENCE names another."""
    return os.environ.get("PISTE_ID_TOKEN_AUDIENCE") or host
