"""Stage 5, testing → verifying: whether a host is well after an activation, measured by how it was before.

A unit that was failing before does not count against a release; one that fails only now does. And the hub has
to be reachable over a new connection, since a host that has lost its network can't be told to go back.
"""

import time
from pathlib import Path
from typing import Final

from piste.client.api import HubClient
from piste.client.credentials import Credential
from piste.host.place import Host
from piste.lib import process
from piste.lib.errors import PisteError
from piste.lib.retry import Backoff

UNITS_FAILED: Final = 4  # the exit status of switch-to-configuration that speaks of units
_ASK: Final = 30.0  # seconds that systemd may take for an answer
_REACH: Final = 30.0  # seconds that the network may take to come back after a switch
_CONNECT: Final = 10.0  # seconds of one attempt
# A hub that a whole fleet asks at once is slow, and no reason to leave a release that runs well.
_ANSWER: Final = 120.0
_PAUSE: Final = 1.0
# Whoever answered, it was not the hub.
_NO_ANSWER: Final = frozenset(("hub-unreachable", "hub-certificate", "bad-answer"))
_SETTLE: Final = 1.0  # seconds that a service which was just started has to last
_LOOK: Final = 0.1


def runs_systemd() -> bool:
    """Whether systemd is the init of this machine."""
    return Path("/run/systemd/system").is_dir()


def failing_units(host: Host) -> frozenset[str]:
    """The units that have failed, or that fail again and again."""
    if not host.is_whole_machine or not runs_systemd():
        return frozenset()
    argv = ["systemctl", "list-units", "--all", "--full", "--plain", "--no-legend", "--no-pager"]
    listed = process.run(argv, timeout=_ASK).text
    columns = (line.split(None, 4) for line in listed.splitlines() if line.strip())
    return frozenset(
        unit for unit, _, active, sub, *_ in columns if active == "failed" or "auto-restart" in sub
    )


def settled_failures(host: Host, since: float, before: frozenset[str]) -> frozenset[str]:
    """The failing units after an activation that began at `since`, by the monotonic clock.

    For systemd a plain service has started well once its process is there, which may end at once: where one
    was started, the units are watched until it has lasted, or until one fails that did not before.
    """
    until = _last_start(host, since) + _SETTLE
    while True:
        failing = failing_units(host)
        if failing - before or time.monotonic() > until:
            return failing
        time.sleep(_LOOK)


def _last_start(host: Host, since: float) -> float:
    """When a service was started for the last time; long ago where none was since then."""
    if not host.is_whole_machine or not runs_systemd():
        return -_SETTLE
    name = "ActiveEnterTimestampMonotonic"
    shown = process.run(["systemctl", "show", f"--property={name}", "*.service"], timeout=_ASK).text
    values = [line.removeprefix(f"{name}=") for line in shown.splitlines()]
    starts = [int(value) / 1_000_000 for value in values if value.isdecimal()]
    return max((start for start in starts if start > since), default=-_SETTLE)


def description(unit: str) -> str:
    """What a unit says that it is; for a transient one its command."""
    argv = ["systemctl", "show", "--property=Description", "--value", unit]
    return process.run(argv, timeout=_ASK, check=False).text.strip() or unit


def is_active(unit: str) -> bool:
    """Whether a unit runs, or is about to."""
    state = process.run(["systemctl", "is-active", unit], timeout=_ASK, check=False).text.strip()
    return state in ("active", "activating", "deactivating", "reloading")


def activation_failed(status: int, before: frozenset[str], after: frozenset[str]) -> bool:
    """What an exit status means: units that fail as they did before are no failure of the release."""
    if status == 0:
        return bool(after - before)
    return not (status == UNITS_FAILED and after and after <= before)


def try_reach_hub(credential: Credential) -> str | None:
    """None when the hub answers over a connection that is opened now, whatever it says; else why it does
    not."""
    deadline = time.monotonic() + _REACH
    once = Backoff(attempts=1)
    while True:
        try:
            with HubClient(credential, timeout=_ANSWER, connect_timeout=_CONNECT, backoff=once) as hub:
                hub.status()
            return None
        except PisteError as error:
            if error.ref not in _NO_ANSWER:
                return None
            if time.monotonic() + _PAUSE > deadline:
                return error.message
        time.sleep(_PAUSE)
