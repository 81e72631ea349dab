"""What a person should know before a release is activated: that it would cut this host off, or wants a
reboot.

Only looks at what was fetched, and never stops a deployment: another tool may bring the next release.
"""

import re
from collections.abc import Iterator
from typing import Final

from piste.client.credentials import read_login
from piste.host.activate import Configuration
from piste.host.diff import reboot_needed
from piste.host.records import Authorised, Kind
from piste.nix.store_path import StorePath
from piste.wire.manifest import Manifest

_PISTE: Final = re.compile(r"[0-9a-z]{32}-(python3[0-9.]*-)?piste(-[0-9].*)?")
# Where a system says which caches and keys it believes, and where its login or agent is configured.
_SETTINGS: Final = ("etc/nix/nix.conf", "etc/piste/login.json", "etc/piste/agent.toml")
_LONGEST: Final = 1 << 20
_NOBODY: Final = "and nobody is logged in on this host to keep it."


def cut_off(
    authorised: Authorised, manifest: Manifest, configuration: Configuration, hub_url: str
) -> Iterator[str]:
    """Sentences, one for each thing that the new system lacks and that this host relies on."""
    if configuration.kind is Kind.HOME_MANAGER:
        return  # the system that it stands on keeps all of that
    if not any(_PISTE.fullmatch(entry.path) for entry in manifest.paths):
        yield (
            "The new system does not contain piste: once it runs, this host can't fetch its next release"
            " by itself."
            " The flake's NixOS module `piste-agent` adds it."
        )
    login = read_login()
    if login is not None:
        return  # hub and keys are kept beside the system, in the login, and stay
    settings = "\n".join(_texts(configuration))
    if hub_url not in settings:
        yield f"The new system does not name this hub, {hub_url}, {_NOBODY}"
    if authorised.key not in settings:
        yield f"The new system does not trust the key {authorised.key}, {_NOBODY}"


def reboot(manifest: Manifest, configuration: Configuration) -> Iterator[str]:
    """A sentence where a part of the release takes effect only with the next boot."""
    host, kind = configuration.host, configuration.kind
    paths = {StorePath.from_base_name(entry.path) for entry in manifest.paths}
    if kind is Kind.NIXOS and reboot_needed(host, host.running(kind), paths):
        yield "Kernel, modules or initrd change with this release: they take effect with a reboot."


def _texts(configuration: Configuration) -> Iterator[str]:
    for name in _SETTINGS:
        file = configuration.find(name)
        if file is not None and file.is_file() and file.stat().st_size < _LONGEST:
            yield file.read_text(encoding="utf-8", errors="replace")
