"""The engine: brings this host to what a reference means, and goes on after a crash. One deployment at a
time.

What fails before anything was changed is raised as the error that it is; what fails later has been undone,
and comes back as an Outcome that says how that went.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from piste.client.api import HubClient
from piste.client.credentials import Credential
from piste.host import warnings
from piste.host.activate import Configuration, check_action, check_configuration, still_running
from piste.host.fetch import Fetching
from piste.host.journal import Journal, Writer
from piste.host.place import Host, system_type
from piste.host.records import Action, Authorised, Deployment, Fetched, Kind, Outcome, Result, State, Watcher
from piste.host.resolve import read_reference
from piste.host.stopwatch import Stopwatch
from piste.host.switch import Switch
from piste.lib.errors import BlockedError, PisteError, StrandedError
from piste.wire.manifest import Manifest


@dataclass(frozen=True)
class Request:
    """What was asked for."""

    kind: Kind
    reference: str
    action: Action = Action.SWITCH
    verify: bool = True


@dataclass
class _Work:
    """What the steps of one deployment share."""

    host: Host
    journal: Journal
    writer: Writer
    watcher: Watcher
    seconds: Stopwatch


def apply(host: Host, credential: Credential, request: Request, watcher: Watcher) -> Outcome:
    """Resolve, fetch, test, verify, commit."""
    check_action(request.kind, request.action)
    host.check_bootable()
    journal = Journal(host.state_folder(request.kind))
    with journal.writer(f"piste apply {request.kind} {request.reference}") as writer:
        work = _Work(host, journal, writer, watcher, Stopwatch())
        recover(host, journal, writer, watcher)
        deployment = writer.begin(kind=request.kind, action=request.action, reference=request.reference)
        try:
            authorised, manifest, fetched, deployment = _obtain(work, credential, request, deployment)
            target = Configuration(host, request.kind, authorised.store_path)
            check_configuration(target, system_type())
        except PisteError as error:
            writer.move(deployment, State.FINISHED, result=Result.FAILED, reason=error.message)
            raise
        warned = [
            *(warnings.cut_off(authorised, manifest, target, credential.hub) if manifest else ()),
            *(warnings.reboot(manifest, target) if manifest else ()),
        ]
        for text in warned:
            watcher.warn(text)
        log = journal.log_file(deployment.deployment)
        confirm = credential if request.verify else None
        doubtful = journal.ended_badly()
        switch = Switch(
            writer, deployment, target, log, watcher, confirm, doubtful=doubtful, seconds=work.seconds
        )
        return outcome(switch.perform(request.action), work.seconds, fetched, warned)


def recover(host: Host, journal: Journal, writer: Writer, watcher: Watcher) -> Deployment | None:
    """Finish what a crash interrupted: commit what was confirmed, undo what was being tested."""
    left = journal.interrupted()
    if left is None:
        return None
    early = left.state in (State.RECEIVED, State.AUTHORISED, State.PLANNED, State.FETCHED)
    if early or left.kind is None or left.store_path is None:
        return writer.move(
            left, State.FINISHED, result=Result.FAILED, reason="Interrupted before anything was changed."
        )
    if still_running(host, left.kind, journal.folder):
        raise BlockedError(
            "activation-running",
            "An activation that was begun before still runs on this host.",
            hint="Try again when it has ended. Where systemd runs, `systemctl status"
            " nixos-rebuild-switch-to-configuration` shows it.",
        )
    watcher.warn(f"The deployment of {left.reference or left.store_path} was interrupted while {left.state}.")
    target = Configuration(host, left.kind, left.store_path)
    switch = Switch(writer, left, target, journal.log_file(left.deployment), watcher)
    if left.state is State.CONFIRMED:
        ended = switch.commit(Result.STAGED if left.action is Action.BOOT else Result.COMMITTED)
    else:
        ended = switch.go_back("Interrupted while it was being tested.")
    if ended.result is Result.ROLLBACK_FAILED:
        raise StrandedError(
            "rollback-failed",
            f"An interrupted deployment could not be undone: {ended.reason}",
            hint=f"What was said is in {switch.log}.",
        )
    return ended


def outcome(
    deployment: Deployment,
    seconds: Stopwatch,
    fetched: Fetched | None = None,
    warned: list[str] | None = None,
) -> Outcome:
    """What the commands answer for a deployment that has come to its end."""
    if deployment.result is None:
        raise ValueError("the deployment has not come to its end")
    return Outcome(
        reference=deployment.reference,
        version=deployment.version,
        store_path=deployment.store_path,
        previous=deployment.previous,
        generation=deployment.generation,
        result=deployment.result,
        newly_failed_units=deployment.newly_failed_units,
        paths_fetched=fetched.paths_fetched if fetched else 0,
        bytes_received=fetched.bytes_received if fetched else 0,
        seconds=seconds.read(),
        reason=deployment.reason,
        warnings=warned or [],
    )


def _obtain(
    work: _Work, credential: Credential, request: Request, deployment: Deployment
) -> tuple[Authorised, Manifest | None, Fetched, Deployment]:
    """Stages 1 to 3: from a reference to a closure in the store, rooted."""
    move = work.writer.move
    with HubClient(credential) as hub, Fetching(hub, work.host, work.watcher, work.seconds) as fetching:
        reference = read_reference(request.reference, hub.url, request.kind)
        work.watcher.step(f"Resolving {reference}")
        authorised = fetching.authorise(reference, request.kind, work.journal.deployments())
        deployment = move(deployment, State.AUTHORISED, **_identity(authorised))
        plan = fetching.plan_if_possible(authorised)
        deployment = move(deployment, State.PLANNED)
        fetched = fetching.bring(authorised, plan, root_link(work.journal, request.kind))
    got = {"paths_fetched": fetched.paths_fetched, "bytes_received": fetched.bytes_received}
    manifest = plan.manifest if plan is not None else None
    return authorised, manifest, fetched, move(deployment, State.FETCHED, **got)


def _identity(authorised: Authorised) -> dict[str, Any]:
    names = ("reference", "organization", "project", "version", "store_path")
    return {name: getattr(authorised.resolution, name) for name in names} | {
        "sequence": authorised.statement.sequence
    }


def root_link(journal: Journal, kind: Kind) -> Path:
    """What keeps the newest closure from the garbage collector until the profile does."""
    return journal.folder / "roots" / kind.value
