"""Addresses of hubs: which are well formed, and to which a token may be sent.

A token travels over TLS or to this very machine; every sender of one asks here first.
"""

import ipaddress
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from piste.lib.errors import UsageError


@dataclass(frozen=True)
class HubAddress:
    """A hub's address, taken apart; `prefix` is the path before the hub's own, without a slash at its end."""

    scheme: str
    host: str
    port: int
    prefix: str

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        standard = {"http": 80, "https": 443}[self.scheme]
        return f"{self.scheme}://{host}" + ("" if self.port == standard else f":{self.port}") + self.prefix

    @property
    def loopback(self) -> bool:
        """True for this machine; judged by the text alone, since a name's address can change."""
        if self.host.lower() == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse_address(text: str) -> HubAddress:
    """Read `https://hub.example.org[:PORT][/prefix]`; UsageError says what is wrong with it."""
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError as error:
        raise _bad_address(text, str(error)) from error
    if parts.scheme not in ("http", "https"):
        raise _bad_address(text, "it must start with https:// (or http:// for this machine)")
    if not parts.hostname:
        raise _bad_address(text, "it names no host")
    if parts.username is not None or parts.password is not None:
        raise UsageError(
            "bad-hub",
            "The hub's address holds a user name or a password.",
            hint="Leave it out: the token comes from `piste login`, PISTE_TOKEN_FILE or PISTE_TOKEN.",
        )
    if parts.query or parts.fragment:
        raise _bad_address(text, "it has a query or a fragment")
    default = 443 if parts.scheme == "https" else 80
    return HubAddress(parts.scheme, parts.hostname, port or default, parts.path.rstrip("/"))


def require_safe(address: HubAddress) -> None:
    """Refuse to send a token in the clear to another machine."""
    if address.scheme == "http" and not address.loopback:
        raise UsageError(
            "insecure-hub",
            f"{address.url} is not reached over TLS, so the token was not sent.",
            hint=f"Use https://{address.host}, or an address of this machine such as http://127.0.0.1:8080.",
        )


def segments(*parts: str) -> str:
    """A path of whole segments: each is encoded in full, so that a slash in a name stays in its segment."""
    return "/" + "/".join(quote(part, safe="") for part in parts)


def _bad_address(text: str, reason: str) -> UsageError:
    return UsageError("bad-hub", f"{text!r} is not the address of a hub: {reason}.")
