"""Which hub, and with which token: from flags, the environment, or what `piste login` stored.

The stored token is sent to the hub that it was stored for, and to no other. A token is never in an
argument, a message or a representation of an object.
"""

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from piste.client.address import HubAddress, parse_address, require_safe
from piste.lib.errors import PisteError, UsageError
from piste.lib.files import write_secret

_LONGEST_TOKEN = 16 * 1024  # a JWT with many claims takes 2 KiB


class Login(msgspec.Struct, frozen=True):
    """What is stored in login.json; `trusted_public_keys` are those that a host believes, by organization."""

    hub: str
    token: str
    kind: str | None = None
    organizations: list[str] = []
    trusted_public_keys: dict[str, list[str]] = {}

    def __repr__(self) -> str:
        return f"Login(hub={self.hub!r}, kind={self.kind!r})"


@dataclass(frozen=True)
class Credential:
    """A hub and the token for it, which may be absent."""

    address: HubAddress
    token: str | None = field(default=None, repr=False)

    @property
    def hub(self) -> str:
        return self.address.url


def config_home() -> Path:
    """The folder of login.json: PISTE_CONFIG_HOME, `/etc/piste` for root, else the XDG folder."""
    if chosen := os.environ.get("PISTE_CONFIG_HOME"):
        return Path(chosen)
    if os.geteuid() == 0:
        return Path("/etc/piste")
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path(os.environ.get("HOME", "/")) / ".config")
    return Path(base) / "piste"


def login_file() -> Path:
    return config_home() / "login.json"


def read_login() -> Login | None:
    """What `piste login` stored, if anything."""
    try:
        data = login_file().read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise PisteError(
            "login-unreadable",
            f"{login_file()} may not be read by this user.",
            hint="Run the command as the user that logged in, or set PISTE_CONFIG_HOME.",
        ) from error
    try:
        return msgspec.json.decode(data, type=Login)
    except msgspec.DecodeError as error:
        raise PisteError(
            "login-unreadable",
            f"{login_file()} can't be read: it is damaged.",
            hint="Run `piste logout`, then `piste login`.",
        ) from error


def write_login(login: Login) -> Path:
    """Store a login, readable by this user alone."""
    path = login_file()
    write_secret(path, msgspec.json.format(msgspec.json.encode(login), indent=2) + b"\n")
    return path


def delete_login() -> bool:
    """Forget the login; False if there was none."""
    try:
        login_file().unlink()
    except FileNotFoundError:
        return False
    return True


def find_credential(hub: str | None = None, token_file: Path | None = None) -> Credential:
    """The hub and the token that hold for this command; UsageError if no hub is known.

    The token: `token_file` if given, then PISTE_TOKEN, then PISTE_TOKEN_FILE, then the stored login.
    """
    login = read_login()
    chosen = hub or os.environ.get("PISTE_HUB") or (login.hub if login else None)
    if not chosen:
        raise UsageError(
            "hub-missing",
            "No hub is set.",
            hint="Set PISTE_HUB or give --hub, for example --hub https://hub.example.org.",
        )
    address = parse_address(chosen)
    token = find_token(token_file)
    if token is None and login is not None and parse_address(login.hub) == address:
        token = login.token
    if token is not None:
        require_safe(address)
    return Credential(address, token)


def find_token(token_file: Path | None = None) -> str | None:
    """The token that was given to this command, apart from any login."""
    if token_file is not None:
        return read_token(token_file)
    if text := os.environ.get("PISTE_TOKEN"):
        return check_token(text, "PISTE_TOKEN")
    if name := os.environ.get("PISTE_TOKEN_FILE"):
        return read_token(Path(name))
    return None


def read_token(path: Path) -> str:
    """The token in a file; surrounding white space does not count."""
    try:
        if stat.S_ISDIR(path.stat().st_mode):
            raise UsageError("token-file", f"{path} is a folder; the token must be in a file.")
        with path.open("rb") as file:
            data = file.read(_LONGEST_TOKEN + 1)
    except OSError as error:
        raise UsageError("token-file", f"The token can't be read from {path}: {error.strerror}.") from error
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError as error:
        raise UsageError("token-file", f"{path} does not hold a token.") from error
    return check_token(text, str(path))


def check_token(text: str, source: str) -> str:
    """A token as it may stand in a header; `source` is named in the error, never the text."""
    token = text.strip()
    if not token:
        raise UsageError("token-file", f"{source} holds no token: it is empty.")
    if len(token) > _LONGEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise UsageError("token-file", f"{source} does not hold a token.")
    return token
