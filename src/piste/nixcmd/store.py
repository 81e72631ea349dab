"""Which Nix store the commands act on, and where its paths really lie.

With a chroot store (`local?root=DIR`) the logical path `/nix/store/x` is the file `DIR/nix/store/x`.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlencode

from piste.lib.errors import UsageError

STORE_DIR: Final = "/nix/store"


@dataclass(frozen=True)
class Store:
    """A store by its address, as Nix understands it; `root` is set for a chroot store."""

    url: str
    root: Path | None = None

    @classmethod
    def parse(cls, text: str) -> "Store":
        """`auto`, `daemon`, `unix://…`, `local`, `local?root=DIR`, or a folder; `auto` follows NIX_REMOTE."""
        if text in ("", "auto"):
            inherited = os.environ.get("NIX_REMOTE", "")
            return cls.parse(inherited) if inherited not in ("", "auto") else cls("auto", _private_root())
        if text.startswith("/"):
            text = "local?" + urlencode({"root": text}, safe="/")
        scheme, _, query = text.partition("?")
        if scheme in ("local", "local://"):
            roots = parse_qs(query).get("root", [])
            if roots and not roots[0].startswith("/"):
                raise UsageError("bad-store", f"The root of the store {text!r} must be an absolute path.")
            return cls(text, Path(roots[0]) if roots and roots[0] != "/" else None)
        if scheme == "daemon" or scheme.startswith("unix://"):
            return cls(text)
        raise UsageError(
            "bad-store",
            f"{text!r} is not a store that a system can run from.",
            hint="Use `auto`, `daemon`, or `local?root=DIR` for a chroot store.",
        )

    @property
    def environment(self) -> dict[str, str]:
        """What Nix's commands are given. Both variables: with one alone, some commands still make `/nix`."""
        if self.root is None:
            return {} if self.url == "auto" else {"NIX_REMOTE": self.url}
        if self.url == "auto":
            return {}  # Nix chooses the private root by itself, and only while nothing points elsewhere
        return {"NIX_REMOTE": self.url, "NIX_STATE_DIR": str(self.root / "nix/var/nix")}

    @property
    def state(self) -> Path:
        """The folder of profiles and roots."""
        default = Path(os.environ.get("NIX_STATE_DIR", "/nix/var/nix"))
        return default if self.root is None else self.root / "nix/var/nix"

    def real_path(self, path: str | Path) -> Path:
        """The file behind a logical path."""
        return Path(path) if self.root is None else self.root / str(path).lstrip("/")


def _private_root() -> Path | None:
    """The chroot store that Nix gives an ordinary user on a system that has no `/nix`."""
    if os.geteuid() == 0 or "NIX_STATE_DIR" in os.environ or Path("/nix/var/nix").exists():
        return None
    home = Path(os.environ.get("HOME", "/"))
    data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local/share")
    return data / "nix/root"
