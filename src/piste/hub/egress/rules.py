"""Where the hub may connect to on somebody's behalf: addresses and networks, decided from texts alone. Pure.

Deny by default: only addresses of the public internet, and what the operator has allowed by name or network.
"""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_URL: Final = 2048
_NAME: Final = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252}[A-Za-z0-9])?"
_HOST: Final = re.compile(_NAME)
# One spelling, taken apart once: what another parser would read differently (`\`, `@`, spaces) is no address.
_URL: Final = re.compile(
    rf"https://(?P<host>{_NAME}|\[[0-9A-Fa-f:.]{{2,45}}\])(?::(?P<port>[0-9]{{1,5}}))?"
    r"(?P<path>/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)?(?:\?(?P<query>[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*))?"
)

_CLOSED: Final[tuple[Network, ...]] = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",
        "100.64.0.0/10",  # shared by carriers
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local: the metadata services of clouds
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",  # relays into 6to4
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "2001::/23",  # protocols' own, Teredo among them, which maps IPv4
        "2001:db8::/32",
        "2002::/16",  # 6to4 maps IPv4
        "3fff::/20",
    )
)
# Everything else of IPv6 is local, multicast, mapped, translated or not given out.
_UNICAST: Final = ipaddress.ip_network("2000::/3")


class EgressError(Exception):
    """The hub did not get, or did not want to get, what it was to fetch. The text is for the hub's log."""


class StatusError(EgressError):
    """It was answered, but not with a document."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}, where only 200 counts")
        self.status = status


@dataclass(frozen=True)
class Target:
    """An address taken apart. `host` is lower case, without brackets."""

    host: str
    port: int
    path: str  # with the query

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"https://{host}:{self.port}{self.path}"


@dataclass(frozen=True)
class Allowances:
    """What the operator allows beyond the public internet."""

    networks: tuple[Network, ...] = ()
    hosts: frozenset[str] = frozenset()


def parse_allowances(texts: Sequence[str]) -> Allowances:
    """Addresses, networks or names of hosts; ValueError for anything else."""
    networks: list[Network] = []
    hosts: set[str] = set()
    for text in texts:
        try:
            networks.append(ipaddress.ip_network(text, strict=False))
        except ValueError:
            if "/" in text or not _HOST.fullmatch(text):
                raise
            hosts.add(_canonical(text))
    return Allowances(tuple(networks), frozenset(hosts))


def parse_target(url: str) -> Target:
    """Take an https address apart; EgressError for everything that is not plainly one."""
    match = _URL.fullmatch(url) if len(url) <= MAX_URL else None
    if match is None:
        raise EgressError("not a plain https address")
    port = int(match["port"] or 443)
    if not 0 < port < 65536:
        raise EgressError("not a port")
    query = f"?{match['query']}" if match["query"] is not None else ""
    return Target(_canonical(match["host"].strip("[]")), port, (match["path"] or "/") + query)


def permitted(target: Target, resolved: Sequence[str], allowances: Allowances) -> list[Address]:
    """Those of the addresses that a name resolved to which may be connected to; EgressError if none may."""
    found = [address for text in resolved if (address := _parse(text)) is not None]
    chosen = [each for each in found if target.host in allowances.hosts or is_open(each, allowances)]
    if not chosen:
        raise EgressError("the address is not of the public internet, and the operator does not allow it")
    return chosen


def is_open(address: Address, allowances: Allowances) -> bool:
    """Whether an address is of the public internet, or allowed."""
    if any(address in network for network in allowances.networks):
        return True
    if isinstance(address, ipaddress.IPv6Address) and address not in _UNICAST:
        return False
    return not any(address in network for network in _CLOSED)


def _canonical(host: str) -> str:
    return host.lower().rstrip(".")


def _parse(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None  # with a zone (`fe80::1%eth0`) it is link-local, and never wanted
