"""Telling systemd how a service is: READY=1, STOPPING=1. Without systemd nothing happens."""

import os
import socket


def notify(state: str) -> bool:
    """Send a state to the socket of $NOTIFY_SOCKET; whether anybody was told."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address or address[0] not in "/@":
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.connect(address)
            channel.sendall(state.encode())
    except OSError:
        return False  # a service must not fail because nobody listens
    return True
