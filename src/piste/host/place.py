"""Where on a host things are: profiles, what runs now, our own state. Knows the three kinds; changes nothing.

Under another root than `/`, links in the store and in profiles are logical: `/nix/store/x` lies at
`ROOT/nix/store/x`.
"""

import os
import pwd
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

from piste.host.records import Kind
from piste.lib.errors import PisteError, UsageError
from piste.nixcmd.store import STORE_DIR, Store

_GENERATION: Final = re.compile(r"(?P<profile>.+)-(?P<number>[1-9][0-9]*)-link")
LINKS: Final = 40  # as many as the kernel follows


@dataclass(frozen=True)
class Host:
    """A machine, or a folder that stands for one."""

    store: Store
    root: Path = Path("/")

    @classmethod
    def at(cls, store: str, root: str | Path = "/") -> "Host":
        """The host at `root`. Its store is the one below it, unless another is named."""
        place = Path(root).absolute()
        if store in ("", "auto") and place != Path("/"):
            return cls(Store.parse("local?" + urlencode({"root": str(place)}, safe="/")), place)
        return cls(Store.parse(store), place)

    @property
    def is_whole_machine(self) -> bool:
        return self.root == Path("/")

    def within(self, path: str | Path) -> Path:
        """The file behind a path as the host itself sees it."""
        return self.root / str(path).lstrip("/")

    def check_bootable(self) -> None:
        """A configuration runs from its store, so the store has to be the one below the root."""
        if (self.store.root or Path("/")).resolve() != self.root.resolve():
            raise UsageError(
                "store-elsewhere",
                f"The store {self.store.url} is not the one below {self.root}, so nothing there could run"
                " from it.",
                hint="Give --root DIR alone, or with --store 'local?root=DIR'.",
            )

    def home(self) -> Path:
        """The home of the user whose configuration is activated, as the host sees it."""
        if named := os.environ.get("HOME"):
            return Path(named)
        return Path(pwd.getpwuid(os.geteuid()).pw_dir)

    def user_state(self) -> Path:
        """The user's state folder, as the host sees it."""
        if self.is_whole_machine and os.environ.get("XDG_STATE_HOME"):
            return Path(os.environ["XDG_STATE_HOME"])
        return self.home() / ".local/state"

    def state_folder(self, kind: Kind) -> Path:
        """Where our journal is: the user's own for what a user activates."""
        place = self.user_state() / "piste" if kind is Kind.HOME_MANAGER else "/var/lib/piste"
        return self._kept_within(self.within(place))

    def cache_folder(self) -> Path:
        """Where what can be had again is kept: the user's own folder, or that of the machine or root."""
        if self.is_whole_machine and os.geteuid() != 0:
            cache = os.environ.get("XDG_CACHE_HOME")
            return Path(cache or self.home() / ".cache") / "piste"
        return self._kept_within(self.within("/var/cache/piste"))

    def _kept_within(self, folder: Path) -> Path:
        """UsageError where a link below the root would have us write outside of it."""
        if self.is_whole_machine or folder.resolve().is_relative_to(self.root.resolve()):
            return folder
        raise UsageError(
            "root-left",
            f"{folder} leads to {folder.resolve()}, out of {self.root}.",
            hint="A link that is right within that root points elsewhere from here: make it a relative one.",
        )

    def profile(self, kind: Kind) -> Path:
        """The profile that a configuration is committed to."""
        if kind is Kind.HOME_MANAGER:
            own = self.within(self.user_state()) / "nix/profiles/home-manager"
            # Where home-manager had it before users' profiles moved to their homes.
            older = self.store.state / "profiles/per-user" / user_name() / "home-manager"
            return older if older.is_symlink() and not own.parent.is_dir() else own
        return self.store.state / "profiles/system"

    def running(self, kind: Kind) -> str | None:
        """The store path that runs now, None if there is none."""
        if kind is Kind.HOME_MANAGER:
            current = self.within(self.user_state()) / "home-manager/gcroots/current-home"
            return self.store_path_behind(current) or self.store_path_behind(self.profile(kind))
        return self.store_path_behind(self.within("/run/current-system"))

    def booted(self) -> str | None:
        """The store path that the machine was started from."""
        return self.store_path_behind(self.within("/run/booted-system"))

    def generation(self, kind: Kind) -> int | None:
        """The number that the profile points to now."""
        profile = self.profile(kind)
        if not profile.is_symlink():
            return None
        found = _GENERATION.fullmatch(profile.readlink().name)
        return int(found["number"]) if found and found["profile"] == profile.name else None

    def generations(self, kind: Kind) -> dict[int, str]:
        """The profile's generations, oldest first, with their store paths."""
        profile = self.profile(kind)
        found: dict[int, str] = {}
        for link in profile.parent.glob(f"{profile.name}-*-link"):
            match = _GENERATION.fullmatch(link.name)
            path = self.store_path_behind(link)
            if match and match["profile"] == profile.name and path:
                found[int(match["number"])] = path
        return dict(sorted(found.items()))

    def store_path_behind(self, link: Path) -> str | None:
        """The store path (its first level) that a chain of links ends at, as the host sees it."""
        for _ in range(LINKS):
            text = str(link)
            logical = self._logical(text)
            if logical.startswith(STORE_DIR + "/"):
                return STORE_DIR + "/" + logical.removeprefix(STORE_DIR + "/").split("/", 1)[0]
            try:
                target = str(link.readlink())
            except OSError:
                return None
            link = self._follow(link, target)
        raise PisteError("link-loop", f"The links at {link} lead in a circle.")

    def _follow(self, link: Path, target: str) -> Path:
        if not target.startswith("/"):
            return link.parent / target
        # A link that Nix wrote in a profile may name the folder itself, with the root in front.
        if self.is_whole_machine or target.startswith(f"{self.root}/"):
            return Path(target)
        return self.within(target)

    def _logical(self, text: str) -> str:
        return text if self.is_whole_machine else text.removeprefix(str(self.root))


def hostname() -> str:
    """This machine's name without its domain."""
    return os.uname().nodename.partition(".")[0]


def user_name() -> str:
    """The name of the user who runs this."""
    return os.environ.get("USER") or pwd.getpwuid(os.geteuid()).pw_name


def default_attribute(kind: Kind) -> tuple[str, ...]:
    """What a reference without `#` means, as fh has it."""
    if kind is Kind.HOME_MANAGER:
        return ("homeConfigurations", user_name())
    if kind is Kind.NIX_DARWIN:
        return ("darwinConfigurations", hostname())
    return ("nixosConfigurations", hostname())


def system_type() -> str:
    """This machine's type in Nix's words."""
    uname = os.uname()
    machine = {"arm64": "aarch64", "i386": "i686", "i586": "i686"}.get(uname.machine, uname.machine)
    return f"{machine}-{uname.sysname.lower()}"
