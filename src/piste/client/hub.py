"""Single requests to a hub over http.client, which starts in a fifth of the time of the other client.

One connection, kept open between requests. Answers are the messages of `piste.wire`; every error becomes
an error for people with the exit code that fits. Requests that change nothing when repeated are repeated
when the connection fails; the others are not, since what became of them can't be known.
"""

import http.client
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import IO, Final, Self, TypeVar
from urllib.parse import urlencode

import msgspec

from piste.client.address import HubAddress, parse_address, require_safe, segments
from piste.client.credentials import Credential
from piste.client.proxy import proxy_for
from piste.lib.errors import AccessError, PisteError, UnreachableError, UsageError
from piste.lib.retry import Backoff
from piste.wire.errors import ErrorBody, Problem

T = TypeVar("T")
Body = bytes | IO[bytes] | None

USER_AGENT: Final = "piste"
_TIMEOUT: Final = 30.0  # seconds of silence; a finish of 10,000 paths takes 2
# A server may close a connection that was idle; a request that must not be repeated gets a new one.
_IDLE: Final = 4.0
_PIECE: Final = 256 * 1024  # of a body: below it system calls cost more than copying
_ANSWER_LIMIT: Final = 256 << 20  # bytes of one answer that is read as a whole
# What the hub says of words that somebody typed: they, not the hub, are what is wrong.
_MISTYPED: Final = frozenset(("bad-name", "bad-reference", "bad-requirement", "bad-trust", "bad-version"))
# By which an admin tells where a token was used.
_HOST_NAME: Final = "".join(
    letter for letter in socket.gethostname() if letter.isascii() and letter.isprintable()
)
_PASSING: Final = frozenset((502, 503, 504))
_REPEATABLE: Final = frozenset(("GET", "HEAD", "PUT", "DELETE"))


class HubConnection:
    """A hub and the right to speak with it. Not for several threads at once."""

    def __init__(
        self,
        credential: Credential,
        *,
        timeout: float = _TIMEOUT,
        connect_timeout: float | None = None,
        backoff: Backoff | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if credential.token is not None:
            require_safe(credential.address)
        self.address: HubAddress = credential.address
        self._token = credential.token
        self._timeout = timeout
        self._connect_timeout = connect_timeout or timeout
        self._backoff = backoff or Backoff()
        self._sleep = sleep
        self._connection: http.client.HTTPConnection | None = None
        self._used = 0.0
        self._renew: Callable[[], str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        return self.address.url

    @property
    def token(self) -> str | None:
        """The credential that it speaks with now."""
        return self._token

    @property
    def logged_in(self) -> bool:
        return self._token is not None

    @property
    def headers(self) -> dict[str, str]:
        """What every request carries; for transfers too."""
        headers = {"User-Agent": USER_AGENT, "Accept": "application/json", "Piste-Host": _HOST_NAME}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        return headers

    def another(self, timeout: float, backoff: Backoff) -> "HubConnection":
        """A further connection with the same rights, for another thread."""
        made = HubConnection(
            Credential(self.address, self._token), timeout=timeout, backoff=backoff, sleep=self._sleep
        )
        made._renew = self._renew
        return made

    def use_token(self, token: str, renew: Callable[[], str] | None = None) -> None:
        """Speak with this credential from now on; `renew` gives another one when it has expired."""
        require_safe(self.address)
        self._token = token
        self._renew = renew

    def get(self, answer: type[T], *path: str, query: Mapping[str, str] | None = None) -> T:
        return self.decode(self.request("GET", path, query=query), answer)

    def post(self, answer: type[T], message: object, *path: str, repeatable: bool = False) -> T:
        data = msgspec.json.encode(message)
        return self.decode(self.request("POST", path, data, repeatable=repeatable), answer)

    def patch(self, answer: type[T], message: object, *path: str) -> T:
        return self.decode(self.request("PATCH", path, msgspec.json.encode(message)), answer)

    def put(self, answer: type[T], message: object, *path: str) -> T:
        return self.decode(self.request("PUT", path, msgspec.json.encode(message)), answer)

    def delete(self, *path: str, query: Mapping[str, str] | None = None) -> bytes:
        return self.request("DELETE", path, query=query)

    def request(
        self,
        method: str,
        path: tuple[str, ...],
        body: Body = None,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool = False,
    ) -> bytes:
        """The body of a good answer; else an error for people. `path` is a list of raw segments."""
        target = self.address.prefix + segments(*path)
        if query:
            target += "?" + urlencode(query)
        with self.open(method, target, body, headers=headers, repeatable=repeatable) as response:
            data = response.read(_ANSWER_LIMIT + 1)
        if len(data) > _ANSWER_LIMIT:
            raise PisteError("bad-answer", f"{self.url} answered with more than can be right.")
        return data

    def lines(self, *path: str, query: Mapping[str, str] | None = None) -> Iterator[str]:
        """A good answer of lines, as they come."""
        target = self.address.prefix + segments(*path)
        if query:
            target += "?" + urlencode(query)
        with self.open("GET", target) as response:
            for line in response:
                yield line.decode().rstrip("\n")

    @contextmanager
    def open(
        self,
        method: str,
        target: str,
        body: Body = None,
        *,
        headers: Mapping[str, str] | None = None,
        repeatable: bool = False,
    ) -> Iterator[http.client.HTTPResponse]:
        """A good answer as a stream, for what is too large to be read at once."""
        sent = self.headers | dict(headers or {})
        if isinstance(body, bytes):
            sent.setdefault("Content-Type", "application/json")
        again = repeatable or method in _REPEATABLE
        try:
            response = self._attempt(method, target, body, sent, again)
            if response.status >= 400:
                raise self._error(response.status, response.read(1 << 20), target)
            if response.status >= 300 and response.status != 304:
                raise PisteError(
                    "bad-answer",
                    f"{self.url} sent this request elsewhere, which a hub does not do.",
                    hint="Check the hub's address: is it the one of a web page in front of it?",
                )
            yield response
            response.read()  # what is left, so that the connection can be used again
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise self._unreachable(error) from error
        except BaseException:
            self.close()
            raise
        self._used = time.monotonic()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _attempt(
        self, method: str, target: str, body: Body, headers: Mapping[str, str], again: bool
    ) -> http.client.HTTPResponse:
        waits = self._backoff.waits()
        renewals = 0 if self._renew is None else 1
        while True:
            try:
                response = self._send(method, target, body, headers)
            except (OSError, http.client.HTTPException) as error:
                self.close()
                wait = next(waits, None) if again and not isinstance(error, ssl.SSLError) else None
                if wait is None:
                    raise
            else:
                wait = next(waits, None) if again and response.status in _PASSING else None
                if response.status == 401 and again and renewals:
                    renewals, wait = 0, 0.0
                    headers = dict(headers) | {"Authorization": f"Bearer {self._renewed()}"}
                if wait is None:
                    return response
                self.close()
            self._sleep(wait)
            if body is not None and not isinstance(body, bytes):
                body.seek(0)

    def _renewed(self) -> str:
        if self._renew is not None:
            self._token = self._renew()
        return self._token or ""

    def _send(
        self, method: str, target: str, body: Body, headers: Mapping[str, str]
    ) -> http.client.HTTPResponse:
        if self._connection is not None and time.monotonic() - self._used > _IDLE:
            self.close()
        if self._connection is None:
            self._connection = connect(self.address, self._connect_timeout)
            self._connection.connect()
            self._connection.sock.settimeout(self._timeout)
        try:
            self._connection.request(method, target, body, dict(headers))
        except (BrokenPipeError, ConnectionResetError):
            if body is None:
                raise
            # A hub that refuses a body answers before it had all of it, and that says more than the cut.
            with suppress(OSError, http.client.HTTPException):
                return self._connection.getresponse()
            raise
        return self._connection.getresponse()

    def decode(self, data: bytes, answer: type[T]) -> T:
        """A body as the message that it should be."""
        try:
            return msgspec.json.decode(data, type=answer)
        except msgspec.DecodeError as error:
            raise PisteError(
                "bad-answer",
                f"{self.url} answered with something that this version can't read: {error}.",
                hint="Is it the address of a Piste hub, and is this command as new as the hub?",
            ) from error

    def _error(self, status: int, data: bytes, target: str) -> PisteError:
        error = answer_error(self.url, status, data, logged_in=self.logged_in)
        if error.ref == "not-found":
            # The hub does not say what it was asked for, since it says the same of what is there and hidden.
            error.context.setdefault("asked for", target)
        return error

    def _unreachable(self, error: Exception) -> UnreachableError:
        return unreachable(self.url, error)


def connect(address: HubAddress, timeout: float) -> http.client.HTTPConnection:
    """A connection that is not opened yet; TLS is checked against the system's certificates."""
    if address.scheme == "http":
        return http.client.HTTPConnection(address.host, address.port, timeout=timeout, blocksize=_PIECE)
    context = tls_context()
    proxy = proxy_for(address.url)
    if proxy is None:
        return http.client.HTTPSConnection(
            address.host, address.port, timeout=timeout, context=context, blocksize=_PIECE
        )
    way = parse_address(proxy)
    connection = http.client.HTTPSConnection(
        way.host, way.port, timeout=timeout, context=context, blocksize=_PIECE
    )
    connection.set_tunnel(address.host, address.port)  # TLS then goes through it to the hub itself
    return connection


def tls_context() -> ssl.SSLContext:
    """The system's certificates, and those of NIX_SSL_CERT_FILE, which Nix would use for the same hub.

    Shared by all connections for as long as the files stay the same: reading them takes longer than anything
    else that a connection needs.
    """
    usual = ssl.get_default_verify_paths()
    extra = os.environ.get("NIX_SSL_CERT_FILE")
    return _context(extra, tuple(map(_identity, (extra, usual.cafile, usual.capath))))


@lru_cache(maxsize=1)
def _context(extra: str | None, _: tuple[tuple[int, ...], ...]) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if extra:
        try:
            context.load_verify_locations(extra)
        except (OSError, ssl.SSLError) as error:
            raise PisteError("bad-certificates", f"NIX_SSL_CERT_FILE can't be used: {error}.") from error
    return context


def _identity(path: str | None) -> tuple[int, ...]:
    """Another one once the file is another. Its time does not tell: in a Nix store all have the same."""
    try:
        found = Path(path).stat() if path else None
    except OSError:
        found = None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns) if found is not None else ()


def answer_error(url: str, status: int, data: bytes, *, logged_in: bool) -> PisteError:
    """The error for people that an answer of 4xx or 5xx stands for."""
    try:
        problem = msgspec.json.decode(data, type=ErrorBody).error
    except msgspec.DecodeError:
        problem = Problem("bad-answer", f"{url} answered with status {status} and no reason.")
    context = dict(problem.context)
    if problem.request_id and status >= 500:
        context["request"] = problem.request_id
    hint = problem.hint
    if hint is None and status in (401, 403, 404) and not logged_in:
        hint = "You are not logged in: `piste login` may be what is missing."
    if status == 400 and problem.ref in _MISTYPED:
        return UsageError(problem.ref, problem.message, hint=hint, context=context)
    kind = {
        401: AccessError,
        403: AccessError,
        429: UnreachableError,
        502: UnreachableError,
        503: UnreachableError,
    }
    kind[504] = UnreachableError
    return kind.get(status, PisteError)(problem.ref, problem.message, hint=hint, context=context)


def unreachable(url: str, error: Exception) -> UnreachableError:
    """The error for a hub that does not answer."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return UnreachableError(
            "hub-certificate",
            f"The certificate of {url} is not trusted: {error.verify_message}.",
            hint="Check the address; set SSL_CERT_FILE if the hub's certificate is your own.",
        )
    if isinstance(error, ssl.SSLError) and error.reason == "WRONG_VERSION_NUMBER":
        return UnreachableError(
            "hub-unreachable",
            f"What listens at {url} does not speak TLS.",
            hint="A hub on this machine has an address with http://, unless it was given --tls-cert.",
        )
    if isinstance(error, http.client.BadStatusLine) and not isinstance(error, OSError):
        return UnreachableError(
            "hub-unreachable",
            f"What listens at {url} does not answer as a hub.",
            hint="The address of a hub with TLS begins with https://.",
        )
    return UnreachableError(
        "hub-unreachable",
        f"The hub {url} can't be reached: {reason_of(error)}.",
        hint="Check the address (PISTE_HUB, --hub), and that the hub runs: its /healthz answers `ok`.",
    )


def reason_of(error: Exception) -> str:
    """Why a connection failed, in a few words."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
