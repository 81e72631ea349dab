"""Proxies, as the usual variables name them: https_proxy, http_proxy, all_proxy, no_proxy.

This machine itself is never asked for through one.
"""

import os
from urllib.parse import urlsplit

from piste.client.address import HubAddress


def proxy_for(url: str) -> str | None:
    """The proxy for an address, as a URL; None where it is reached directly."""
    parts = urlsplit(url)
    address = HubAddress(parts.scheme, parts.hostname or "", 0, "")
    proxy = _variable(f"{address.scheme}_proxy") or _variable("all_proxy")
    if not proxy or address.loopback or _is_direct(address.host.lower()):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _is_direct(host: str) -> bool:
    """Whether no_proxy names the host or a domain above it."""
    for entry in _variable("no_proxy").lower().split(","):
        name = entry.strip().partition(":")[0].lstrip("*").lstrip(".")
        if entry.strip() == "*" or (name and (host == name or host.endswith("." + name))):
            return True
    return False


def _variable(name: str) -> str:
    """Lower case wins, as other programs have it."""
    return os.environ.get(name) or os.environ.get(name.upper()) or ""
