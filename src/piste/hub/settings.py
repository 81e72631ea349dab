"""What an operator can set, checked once at the start."""

import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from piste.hub.egress.rules import parse_allowances
from piste.lib.errors import UsageError

MINIMUM_KEY_LENGTH: Final = 32
_INTERNAL: Final = re.compile(r"/([A-Za-z0-9_-]+/)+")


@dataclass(frozen=True)
class RateLimits:
    """How often in a minute, over all processes: wrong credentials from one address; a token (or an address
    without one) asking who it is, and resolving."""

    failed_credentials: int = 120
    sign_ins: int = 600
    resolutions: int = 1200


@dataclass(frozen=True)
class Settings:
    """Settings of one hub process. `public_url` has no slash at its end."""

    data: Path
    listen_host: str
    listen_port: int
    public_url: str
    database: str | None = None  # None: SQLite in `data`; else postgresql://…
    objects: str | None = None  # None: a folder in `data`
    tls_cert: Path | None = None
    tls_key: Path | None = None
    trusted_proxies: tuple[str, ...] = ()  # addresses or networks whose X-Forwarded-For is believed
    allow_egress: tuple[
        str, ...
    ] = ()  # networks and hosts that the hub may fetch from beyond the public internet
    secrets_key: bytes | None = field(default=None, repr=False)  # encrypts signing and token keys at rest
    rate_limits: RateLimits = RateLimits()
    proxy_socket: Path | None = None  # whoever may connect to it is a trusted proxy
    accel_redirect: str | None = None  # where a trusted proxy has our objects' folder; it then sends NARs

    @property
    def database_file(self) -> Path:
        return self.data / "piste.sqlite"

    @property
    def objects_folder(self) -> Path:
        return self.data / "objects" if self.objects is None else Path(self.objects)

    def default_url(self) -> str:
        """The address to be reached at when the operator names none."""
        scheme = "https" if self.tls_cert else "http"
        host = f"[{self.listen_host}]" if ":" in self.listen_host else self.listen_host
        return f"{scheme}://{host}:{self.listen_port}"


def make_settings(
    data: Path,
    *,
    listen: str = "127.0.0.1:8080",
    public_url: str | None = None,
    database: str | None = None,
    objects: str | None = None,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
    trusted_proxies: tuple[str, ...] = (),
    allow_egress: tuple[str, ...] = (),
    secrets_key_file: Path | None = None,
    rate_limits: RateLimits | None = None,
    proxy_socket: Path | None = None,
    accel_redirect: str | None = None,
) -> Settings:
    """Check what the operator gave, and make the data folder; UsageError says what is wrong."""
    host, port = _parse_listen(listen)
    if (tls_cert is None) != (tls_key is None):
        raise UsageError("bad-setting", "--tls-cert and --tls-key belong together.")
    for file in (tls_cert, tls_key):
        if file is not None and not file.is_file():
            raise UsageError("bad-setting", f"There is no file {file}.")
    limits = rate_limits or RateLimits()
    if min(limits.failed_credentials, limits.sign_ins, limits.resolutions) < 1:
        raise UsageError("bad-setting", "A rate limit is at least 1 in a minute.")
    for proxy in trusted_proxies:
        _check_network(proxy)
    _check_allowances(allow_egress)
    if proxy_socket is not None and tls_cert is not None:
        raise UsageError(
            "bad-setting",
            "--proxy-socket and --tls-cert exclude each other.",
            hint="A proxy in front of the hub speaks TLS in its place.",
        )
    _check_accel(accel_redirect, bool(trusted_proxies) or proxy_socket is not None)
    _make_data_folder(data)
    return Settings(
        data=data.resolve(),
        listen_host=host,
        listen_port=port,
        public_url=_parse_public_url(public_url),
        database=None if database in (None, "", "sqlite") else database,
        objects=objects or None,
        tls_cert=tls_cert,
        tls_key=tls_key,
        trusted_proxies=trusted_proxies,
        allow_egress=allow_egress,
        secrets_key=_read_secrets_key(secrets_key_file),
        rate_limits=limits,
        proxy_socket=proxy_socket,
        accel_redirect=accel_redirect or None,
    )


def _read_secrets_key(file: Path | None) -> bytes | None:
    if file is None:
        return None
    try:
        key = file.read_bytes().strip()
    except OSError as error:
        raise UsageError("bad-setting", f"The key file {file} can't be read: {error.strerror}.") from error
    if len(key) < MINIMUM_KEY_LENGTH:
        raise UsageError(
            "bad-setting",
            f"The key in {file} is shorter than {MINIMUM_KEY_LENGTH} bytes.",
            hint="`head -c 32 /dev/urandom | base64 > FILE` makes one.",
        )
    return key


def _parse_listen(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise UsageError(
            "bad-setting",
            f"{text!r} is not an address to listen on.",
            hint="For example 127.0.0.1:8080 or [::]:443.",
        )
    return host.removeprefix("[").removesuffix("]"), int(port)


def _parse_public_url(text: str | None) -> str:
    """Without a slash at its end; empty stands for the address that is listened on."""
    if not text:
        return ""
    parts = urlsplit(text)
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or parts.query
        or parts.fragment
        or "@" in parts.netloc
    ):
        raise UsageError(
            "bad-setting", f"{text!r} is not a public address.", hint="For example https://hub.example.org."
        )
    return text.rstrip("/")


def _check_network(text: str) -> None:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise UsageError("bad-setting", f"{text!r} is neither an address nor a network.") from error


def _check_accel(prefix: str | None, knows_proxy: bool) -> None:
    if not prefix:
        return
    if not _INTERNAL.fullmatch(prefix):
        raise UsageError(
            "bad-setting", f"{prefix!r} is no address within a proxy.", hint="For example /_piste/objects/."
        )
    if not knows_proxy:
        raise UsageError(
            "bad-setting",
            "--accel-redirect needs to know the proxy.",
            hint="Give it a socket by --proxy-socket, or name it by --trusted-proxy: nobody else is told.",
        )


def _check_allowances(texts: tuple[str, ...]) -> None:
    try:
        parse_allowances(texts)
    except ValueError as error:
        raise UsageError(
            "bad-setting",
            f"--allow-egress: {error}.",
            hint="A network such as 10.1.0.0/16, an address, or the name of a host.",
        ) from error


def _make_data_folder(data: Path) -> None:
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError("bad-setting", f"{data} is not a folder.") from error
    except PermissionError as error:
        raise UsageError(
            "bad-setting", f"The folder {data} can't be made.", hint="Its parent is not yours."
        ) from error
