"""Runs one hub process: opens everything, listens, tells systemd, stops cleanly on SIGTERM.

One process, one event loop: a process that is killed takes nothing of itself along. More processes are
further `piste hub serve` on the same data.
"""

import asyncio
import os
import signal
import socket
import sys
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol

import uvloop
from granian.constants import Interfaces
from granian.http import HTTP1Settings
from granian.net import SocketHolder
from granian.server.embed import Server as GranianServer

from piste.hub.app import Application, build
from piste.hub.http1.connection import HEADER_BYTES
from piste.hub.http1.server import Server
from piste.hub.operations.seal import seal_secrets
from piste.hub.services import Services
from piste.hub.settings import Settings
from piste.lib import log, memory, systemd
from piste.lib.errors import PisteError, UsageError

GRACE_SECONDS: Final = 60.0
_BACKLOG: Final = 1024


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; what is in flight is answered first."""
    os.umask(0o077)
    memory.settle()
    log.configure()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    listener = _listen(settings)
    port: int = listener.getsockname()[1]
    settings = replace(settings, listen_port=port)
    if not settings.public_url:
        settings = replace(settings, public_url=settings.default_url())
        if _is_wildcard(settings.listen_host):
            sys.stderr.write("Clients can't use this address: set --public-url to the one that they reach.\n")
    async with AsyncExitStack() as stack:
        stack.callback(listener.close)
        proxy_listener = _listen_for_proxy(settings.proxy_socket, stack)
        services = await build(settings, stack)
        await services.revocations.refresh()
        await seal_secrets(services)
        await _run(_server(services, listener, proxy_listener, settings), settings)


class _Serving(Protocol):
    """A server of either kind."""

    async def serve(self) -> None: ...
    def stop(self) -> None: ...


def _server(
    services: Services, listener: socket.socket, proxy_listener: socket.socket | None, settings: Settings
) -> _Serving:
    """Our own on a plain socket, where files can leave by the kernel; granian for TLS, with HTTP/2."""
    if settings.tls_cert is None:
        return Server(Application(services), listener, services.answers, proxy_listener)
    serving: _Serving = _TlsServer(Application(services), listener, settings)
    return serving


async def _run(server: _Serving, settings: Settings) -> None:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    serving = asyncio.create_task(server.serve())
    stopped = asyncio.create_task(stopping.wait())
    _announce(settings)
    await asyncio.wait([serving, stopped], return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        stopped.cancel()
        await serving
        raise PisteError("server-ended", "The server ended by itself.", hint="The log says more.")
    systemd.notify("STOPPING=1")
    server.stop()
    try:
        async with asyncio.timeout(GRACE_SECONDS):
            await serving
    except TimeoutError:
        sys.stderr.write("Some requests did not end in time and were cut.\n")


class _TlsServer(GranianServer):
    """granian on a socket of our own: a port that is taken is then an error, and port 0 a free one that we
    know."""

    def __init__(self, application: Application, listener: socket.socket, settings: Settings) -> None:
        super().__init__(
            application,
            interface=Interfaces.ASGI,
            backlog=_BACKLOG,
            http1_settings=HTTP1Settings(max_buffer_size=HEADER_BYTES),
            websockets=False,
            log_enabled=False,
            ssl_cert=settings.tls_cert,
            ssl_key=settings.tls_key,
        )
        self._listener = listener

    def _init_shared_socket(self) -> None:
        self._shd = SocketHolder(self._listener.detach(), False, _BACKLOG)
        self._ssp = None


def _announce(settings: Settings) -> None:
    """The socket takes connections from before the application is there; they wait for it."""
    scheme = "https" if settings.tls_cert else "http"
    host = f"[{settings.listen_host}]" if ":" in settings.listen_host else settings.listen_host
    sys.stderr.write(
        f"Listening on {scheme}://{host}:{settings.listen_port}, public address {settings.public_url}\n"
    )
    sys.stderr.flush()
    systemd.notify("READY=1")


def _is_wildcard(host: str) -> bool:
    return host in ("0.0.0.0", "::")  # noqa: S104 -- it is compared, not listened on


def _listen(settings: Settings) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.listen_host, settings.listen_port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind | socket.SOCK_CLOEXEC, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise UsageError(
            "cannot-listen",
            f"The hub can't listen on {settings.listen_host}:{settings.listen_port}: {error.strerror}.",
            hint="Another process may have that port; `--listen 127.0.0.1:0` takes a free one.",
        ) from error
    listener.listen(_BACKLOG)
    listener.setblocking(False)
    return listener


def _listen_for_proxy(path: Path | None, stack: AsyncExitStack) -> socket.socket | None:
    """A socket for the group alone: who may connect is believed. One that a killed process left goes."""
    if path is None:
        return None
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    stack.callback(listener.close)
    try:
        if path.is_socket() and not _is_served(path):
            path.unlink(missing_ok=True)
        listener.bind(str(path))
        path.chmod(0o660)
    except OSError as error:
        raise UsageError(
            "cannot-listen",
            f"The hub can't listen on {path}: {error.strerror or error}.",
            hint="Each process needs a socket of its own, in a folder that is there.",
        ) from error
    stack.callback(path.unlink, missing_ok=True)
    listener.listen(_BACKLOG)
    listener.setblocking(False)
    return listener


def _is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
    return True
