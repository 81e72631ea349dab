"""Teaching a user's Nix about a hub: one entry in its netrc, and the keys in its nix.conf.

Both files belong to the user: they are merged, never overwritten, and whatever contradicts is an error
that names file and line. Only the user's own files are touched, never the system's, so that no other
user's builds get at the token.
"""

import os
import pwd
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from piste.client.address import HubAddress
from piste.client.credentials import read_login
from piste.lib.errors import PisteError
from piste.lib.files import write_atomically, write_secret

_USER: Final = "piste"
_KEYS: Final = ("trusted-public-keys", "extra-trusted-public-keys")
_DAEMON: Final = Path("/nix/var/nix/daemon-socket/socket")
_WORD: Final = re.compile(r'"(?:[^"\\]|\\.)*"|\S+')


@dataclass(frozen=True)
class _Entry:
    """A machine of a netrc; `start` and `end` are character positions of the whole entry."""

    line: int
    machine: str
    password: str | None
    start: int
    end: int


def teach(address: HubAddress, token: str, keys: Sequence[str]) -> list[Path]:
    """Make the user's Nix send `token` to the hub and believe `keys`; the files that were changed."""
    conf = nix_conf()
    text = _read(conf)
    netrc, named = _netrc_of(conf, text)
    shared = is_shared(conf)
    new_netrc = None if shared else _with_machine(netrc, _read(netrc), address.host, token)
    additions = [f"netrc-file = {netrc}"] if not named and not shared else []
    if missing := _missing_keys(conf, text, keys):
        additions.append(f"extra-trusted-public-keys = {' '.join(missing)}")
    changed = []
    # Nothing is written before everything was found to fit.
    if new_netrc is not None:
        write_secret(netrc.resolve(), new_netrc.encode())
        changed.append(netrc)
    if additions:
        conf.parent.mkdir(parents=True, exist_ok=True)
        start = text if not text or text.endswith("\n") else text + "\n"
        write_atomically(conf.resolve(), (start + "\n".join(additions) + "\n").encode(), mode=_mode(conf))
        changed.append(conf)
    return changed


def forget(address: HubAddress, token: str) -> list[Path]:
    """Take the entry with this token out of the user's netrc; the files that were changed."""
    conf = nix_conf()
    netrc, _ = _netrc_of(conf, _read(conf))
    text = _read(netrc)
    for entry in _entries(text):
        if entry.machine == address.host and entry.password == token:
            write_secret(netrc.resolve(), (text[: entry.start] + text[entry.end :].lstrip("\n")).encode())
            return [netrc]
    return []


def is_shared(conf: Path) -> bool:
    """Whether Nix's daemon reads this file too: with a token in it, every user's builds could use that."""
    daemons = Path(pwd.getpwuid(0).pw_dir) / ".config/nix/nix.conf"
    return _DAEMON.exists() and conf.resolve() == daemons.resolve()


def nix_conf() -> Path:
    """The user's own nix.conf."""
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path(os.environ.get("HOME", "/")) / ".config")
    return Path(base) / "nix" / "nix.conf"


def _netrc_of(conf: Path, text: str) -> tuple[Path, bool]:
    """The netrc that nix.conf names, or the one that it will name."""
    named = None
    for _, name, value in _settings(text):
        if name == "netrc-file" and value:
            named = Path(value).expanduser()
    return named or conf.parent / "netrc", named is not None


def _with_machine(path: Path, text: str, host: str, token: str) -> str | None:
    """The netrc with the hub's entry; None if it is there already."""
    login = read_login()
    for entry in _entries(text):
        if entry.machine != host:
            continue
        if entry.password == token:
            return None
        if login is not None and entry.password == login.token:
            kept = text[: entry.start] + text[entry.end :].lstrip("\n")
            return _entry(host, token) + kept
        raise PisteError(
            "netrc-conflict",
            f"{path}, line {entry.line}: there is another password for {host} already. Nothing was changed.",
            hint="Remove that entry if it is not needed; a netrc can hold one password for a host.",
        )
    # At the beginning: an entry `default` further down would win over anything after it.
    return _entry(host, token) + text


def _entry(host: str, token: str) -> str:
    return f"machine {host} login {_USER} password {token}\n"


def _entries(text: str) -> Iterator[_Entry]:
    """The machines of a netrc, in order."""
    words = list(_WORD.finditer(_without_comments(text)))
    starts = [at for at, word in enumerate(words) if word[0] in ("machine", "default", "macdef")]
    for number, at in enumerate(starts):
        end = starts[number + 1] if number + 1 < len(starts) else len(words)
        if words[at][0] != "machine" or at + 1 >= len(words):
            continue
        pairs = {words[i][0]: words[i + 1][0] for i in range(at, end - 1, 2)}
        start = words[at].start()
        yield _Entry(
            text.count("\n", 0, start) + 1,
            pairs["machine"].strip('"'),
            pairs.get("password", "").strip('"') or None,
            start,
            words[end - 1].end(),
        )


def _without_comments(text: str) -> str:
    """The same length, so that positions stay right."""
    return re.sub(r"(?m)^\s*#.*$", lambda found: " " * len(found[0]), text)


def _missing_keys(conf: Path, text: str, keys: Sequence[str]) -> list[str]:
    known: dict[str, tuple[int, str]] = {}
    for line, name, value in _settings(text):
        if name in _KEYS:
            known |= {key.partition(":")[0]: (line, key) for key in value.split()}
    missing = []
    for key in keys:
        line, present = known.get(key.partition(":")[0], (0, ""))
        if present and present != key:
            raise PisteError(
                "nix-conf-conflict",
                f"{conf}, line {line}: the key {key.partition(':')[0]} is trusted with another value. "
                "Nothing was changed.",
                hint="Find out which one is right before you replace it by hand.",
            )
        if not present:
            missing.append(key)
    return missing


def _settings(text: str) -> Iterator[tuple[int, str, str]]:
    """Line, name and value of each setting."""
    for number, line in enumerate(text.splitlines(), 1):
        name, equals, value = line.partition("#")[0].partition("=")
        if equals:
            yield number, name.strip(), value.strip()


def _mode(path: Path) -> int:
    """Who may read the file stays as it is: a nix.conf can hold tokens for other places."""
    return stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o644


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        raise PisteError("nix-settings", f"{path} can't be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise PisteError("nix-settings", f"{path} is not UTF-8 text.") from error
