"""`piste cache hook`, `watch`, `drain`: what Nix builds is queued on the disk, and pushed by who watches."""

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import msgspec
from cyclopts import Parameter

from piste.cli import show
from piste.cli.arguments import parse_duration, parse_project
from piste.cli.options import Hub, Json, StoreUrl, TokenFile, connect, open_store
from piste.client.api import HubClient
from piste.lib import process
from piste.lib.errors import AccessError, PisteError, UnreachableError
from piste.nix.store_path import StorePath
from piste.nix.worker_protocol import Trust
from piste.nixcmd.command import configuration
from piste.nixcmd.daemon import Daemon
from piste.publisher.push import Pushed, PushWish, push
from piste.publisher.queue import Queue, Report
from piste.publisher.sign_in import sign_in_to_push
from piste.publisher.signing import read_signing_keys
from piste.publisher.watch import Watch
from piste.wire.pushes import WantedPaths

Name = Annotated[str, Parameter(help="ORG/PROJECT whose cache is filled.")]
Folder = Annotated[
    Path | None,
    Parameter(name="--queue", help="Folder of the queue; else one for this user and this project."),
]
Keys = Annotated[
    tuple[Path, ...],
    Parameter(
        name="--signing-key-file",
        negative="",
        help="File with a secret key, where the organization does not leave its keys with the hub.",
    ),
]
Patience = Annotated[
    str, Parameter(name="--timeout", help="How long to go on trying while the hub can't be reached.")
]

_LOOK: Final = 0.2  # seconds between two looks at a queue that somebody else pushes


def hook(*, name: Name, queue: Folder = None) -> None:
    """Make the queue, and print what to set Nix's `post-build-hook` to.

    For example:

        echo "post-build-hook = $(piste cache hook --name acme/web)" >> /etc/nix/nix.conf
    """
    show.line(str(_queue(name, queue).write_hook()))


def watch(
    *command: Annotated[
        str, Parameter(name="COMMAND", help="Run this with the hook set, and end when all is pushed.")
    ],
    name: Name,
    queue: Folder = None,
    signing_key_file: Keys = (),
    timeout: Patience = "10m",
    hub: Hub = None,
    token_file: TokenFile = None,
    store: StoreUrl = "auto",
    as_json: Json = False,
) -> int:
    """Push what Nix builds, as it is built.

    Without a command it goes on until it is told to stop. What is queued is on the disk: it is pushed also if
    this, the build, the hub or the machine was down in the meantime.

    For example:

        piste cache watch --name acme/web -- nix build .#checks

        piste cache watch --name acme/web   # beside a Nix whose post-build-hook fills the queue
    """
    patience = parse_duration(timeout)
    held = _queue(name, queue)
    script = held.write_hook()
    with _Hub.of(name, hub, token_file, store, signing_key_file) as pushes, held.pushing() as ours:
        if not ours:
            raise PisteError(
                "already-watching",
                f"Process {held.pusher()} pushes what is in {held.folder} already.",
                hint="`piste cache drain` waits for it.",
            )
        pushes.check()
        if command:
            _check_trusted()
        show.say(f"Pushing to {name} what is queued in {held.folder}; Nix's post-build-hook is {script}")
        if command:
            return _run_watched(held, pushes, command, script, patience, as_json)
        one = Watch(held, pushes.push, _TELL)
        with _stopped_by_signals(one):
            one.run()
        return _told(held, held.report(), one.trouble, as_json, forget=False)


def drain(
    *,
    name: Name,
    queue: Folder = None,
    signing_key_file: Keys = (),
    timeout: Patience = "10m",
    hub: Hub = None,
    token_file: TokenFile = None,
    store: StoreUrl = "auto",
    as_json: Json = False,
) -> int:
    """Wait until everything that is queued was pushed, and say what was and what was not.

    Pushes by itself where nobody watches any more. Ends with 0 only if nothing is missing.

    For example:

        piste cache drain --name acme/web
    """
    deadline = time.monotonic() + parse_duration(timeout)
    held = _queue(name, queue)
    trouble: PisteError | None = None
    while held.waiting():
        with held.pushing() as ours:
            if ours:
                with _Hub.of(name, hub, token_file, store, signing_key_file) as pushes:
                    one = Watch(held, pushes.push, _TELL)
                    with _stopped_by_signals(one):
                        one.drain(deadline)
                trouble = one.trouble
                break
        if time.monotonic() >= deadline:
            break
        time.sleep(_LOOK)
    return _told(held, held.report(), trouble, as_json, forget=True)


def _check_trusted() -> None:
    """A daemon passes over the hook of a user that it does not trust, and says so where nobody looks."""
    with Daemon(open_store("auto")) as daemon:
        if daemon.server.trust is Trust.NOT_TRUSTED:
            raise PisteError(
                "hook-not-run",
                "Nix's daemon does not trust this user, so the hook would not run, and nothing be pushed.",
                hint="Name the user in trusted-users; or let root set post-build-hook to what"
                " `piste cache hook` prints, and watch without a command.",
            )


def _run_watched(
    held: Queue, pushes: "_Hub", command: Sequence[str], script: Path, patience: int, as_json: bool
) -> int:
    one = Watch(held, pushes.push, _TELL)
    beside = threading.Thread(target=one.run, name="watch", daemon=True)
    beside.start()
    code = process.attend(command, extra=configuration({"post-build-hook": str(script)}))
    one.stop()
    beside.join()
    last = Watch(held, pushes.push, _TELL)
    with _stopped_by_signals(last):
        last.drain(time.monotonic() + patience)
    return code or _told(held, held.report(), last.trouble, as_json, forget=True)


class _Tell:
    def say(self, text: str) -> None:
        show.say(text)

    def warn(self, text: str) -> None:
        show.warn(text)


_TELL: Final = _Tell()


@dataclass(frozen=True)
class _Hub:
    """Pushes paths to one project's cache."""

    client: HubClient
    wish: PushWish
    store: str

    @classmethod
    @contextmanager
    def of(
        cls, name: str, hub: str | None, token_file: Path | None, store: str, keys: Sequence[Path]
    ) -> Iterator["_Hub"]:
        organization, project = parse_project(name)
        wish = PushWish(organization, project, (), signing_keys=read_signing_keys(keys, show.warn))
        with connect(hub, token_file) as client:
            sign_in_to_push(client)
            yield cls(client, wish, store)

    def check(self) -> None:
        """At the beginning: a mistake in the name or the credential is said at once, not after the build."""
        keys = [key.name for key in self.wish.signing_keys]
        try:
            self.client.lacking(self.wish.organization, self.wish.project, WantedPaths([], keys))
        except UnreachableError as error:
            show.warn(f"{error.message} What is built waits until it can.")

    def push(self, paths: Sequence[StorePath]) -> Pushed:
        wanted = PushWish(
            self.wish.organization, self.wish.project, tuple(paths), signing_keys=self.wish.signing_keys
        )
        with Daemon(open_store(self.store)) as daemon:
            return push(self.client, daemon, wanted, show.PlainProgress())


def _queue(name: str, folder: Path | None) -> Queue:
    organization, project = parse_project(name)
    if folder is not None:
        return Queue(folder)
    home = os.environ.get("XDG_STATE_HOME") or str(Path(os.environ.get("HOME", "/")) / ".local/state")
    base = (
        Path("/var/lib/piste")
        if os.geteuid() == 0 and "XDG_STATE_HOME" not in os.environ
        else Path(home) / "piste"
    )
    return Queue(base / "queue" / f"{organization}+{project}".lower())


@contextmanager
def _stopped_by_signals(one: Watch) -> Iterator[None]:
    """SIGTERM and SIGINT end it after what is under way."""
    before = {each: signal.signal(each, lambda *_: one.stop()) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _told(held: Queue, report: Report, trouble: PisteError | None, as_json: bool, *, forget: bool) -> int:
    """Say exactly what was pushed and what was not; the exit code that fits."""
    if as_json:
        show.data(
            msgspec.to_builtins({"pushed": report.pushed, "failed": report.failed, "waiting": report.waiting})
        )
    else:
        show.say(f"Pushed: {len(report.pushed)} built paths.")
        for path in report.pushed:
            show.say(f"  {path}")
        for failure in report.failed:
            show.warn(f"not pushed: {failure.path}: {failure.message} ({failure.ref})")
        for path in report.waiting:
            show.warn(f"not pushed yet: {path}")
        if report.waiting and trouble is not None:
            show.warn(f"{trouble.message} ({trouble.ref})")
    if forget:
        held.forget_told(report)
    if report.failed:
        return 1
    if report.waiting:
        return trouble.exit_code if isinstance(trouble, AccessError) else UnreachableError.exit_code
    return 0
