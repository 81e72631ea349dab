"""What Nix is configured to believe."""

import json
from typing import Any

from piste.nixcmd.command import FEATURES, run, version
from piste.nixcmd.store import Store


def trusted_public_keys(store: Store) -> list[str]:
    """The keys of nix.conf, `NAME:BASE64`, by which this machine's Nix accepts paths."""
    verb = ["config", "show"] if version() >= (2, 20) else ["show-config"]
    answer: dict[str, Any] = json.loads(run(store, ["nix", *FEATURES, *verb, "--json"]).stdout)
    return list(answer.get("trusted-public-keys", {}).get("value", []))
