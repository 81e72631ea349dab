"""Stages 4 to 6 with their way back: test, verify, commit; and if one of them fails, what ran before.

Shared by whatever brings a host to a store path that is in its store: apply, rollback, and the recovery after
a crash. Each step is in the journal before it is taken.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from piste.client.credentials import Credential
from piste.host.activate import Configuration, activate, check_inhibitors, other_switch
from piste.host.commit import commit, restore
from piste.host.journal import Writer
from piste.host.place import Host
from piste.host.records import Action, Deployment, Kind, Result, State, Watcher
from piste.host.stopwatch import Stopwatch
from piste.host.verify import activation_failed, failing_units, settled_failures, try_reach_hub
from piste.lib.errors import BlockedError, PisteError, RolledBackError, StrandedError

# Statuses of switch-to-configuration with which it has changed nothing.
_BLOCKED: Final = {
    11: "Another switch is under way on this host.",
    100: "The running init can't take this release over: use the action `boot`, then reboot.",
}
# States in which something else than before may run.
_UNDER_WAY: Final = frozenset({State.TESTING, State.VERIFYING, State.CONFIRMED, State.ROLLING_BACK})


@dataclass
class Switch:
    """One deployment on its way from the store to the machine."""

    writer: Writer
    deployment: Deployment
    target: Configuration
    log: Path
    watcher: Watcher
    confirm: Credential | None = None  # the hub that has to be reachable afterwards
    generation: int | None = None  # one that exists already, to commit to
    doubtful: bool = False  # whether what runs now came to life as it should is unknown
    seconds: Stopwatch = field(default_factory=Stopwatch)

    @property
    def host(self) -> Host:
        return self.target.host

    @property
    def kind(self) -> Kind:
        return self.target.kind

    def perform(self, action: Action) -> Deployment:
        """Do what was asked for, to its end; the deployment says which."""
        if (other := other_switch(self.host, self.kind)) is not None:
            reason = f"Another switch is under way on this host ({other}); try again when it has ended."
            return self._finish(Result.BLOCKED, reason=reason)
        if action is Action.DRY_ACTIVATE:
            return self._dry_activate()
        running = self.host.running(self.kind)
        committed = self.host.store_path_behind(self.host.profile(self.kind))
        before = {"previous": running or committed, "previous_generation": self.host.generation(self.kind)}
        if self._is_there(action, running, committed):
            return self._finish(Result.UNCHANGED, previous=running, generation=before["previous_generation"])
        if action is Action.BOOT:
            return self.commit(Result.STAGED, **before)
        try:
            check_inhibitors(self.target, running)
        except BlockedError as error:
            return self._finish(Result.BLOCKED, reason=f"{error.message} {error.hint}", **before)
        try:
            ended = self._test(before)
            if ended is not None:
                return ended
            return self._finish(Result.TESTED) if action is Action.TEST else self.commit(Result.COMMITTED)
        except OSError as error:
            self._go_back_unrecorded(error)
            raise

    def _go_back_unrecorded(self, error: OSError) -> None:
        """This host's own disk failed in the middle: what ran before has to come back even if nothing can be
        written down. The journal still says that the release was being tested, so the next command undoes it
        once more, which changes nothing.
        """
        previous = self.deployment.previous
        if self.deployment.state not in _UNDER_WAY or previous is None:
            return
        self.watcher.step(f"Rolling back to {previous}")
        reason = f"This host could not write down what it did: {error}."
        try:
            trouble = self._undo(Configuration(self.host, self.kind, previous))
        except OSError as again:
            trouble = str(again)
        if trouble is not None:
            raise StrandedError("rollback-failed", f"{reason} Going back failed: {trouble}") from error
        raise RolledBackError(
            "rolled-back",
            f"{reason} Rolled back: {previous} runs again.",
            hint="Make room on the disk that holds the state of Piste, and try again.",
        ) from error

    def commit(self, result: Result, **facts: Any) -> Deployment:
        """What is confirmed becomes what boots."""
        self._move(State.CONFIRMED, **facts)
        self.watcher.step("Committing: profile and boot entry")
        try:
            with self.seconds.step("commit"):
                generation = commit(self.target, self.log, self.watcher, self.generation)
        except PisteError as error:
            return self.go_back(error.message)
        return self._finish(result, generation=generation)

    def go_back(self, reason: str, newly_failed: list[str] | None = None) -> Deployment:
        """Activate exactly what ran before, see that it is well, and report that as a result of its own."""
        previous = self.deployment.previous
        if previous is None:
            return self._finish(
                Result.FAILED, reason=f"{reason} Nothing ran before that could be gone back to."
            )
        self._move(State.ROLLING_BACK, reason=reason, newly_failed_units=newly_failed or [])
        self.watcher.step(f"Rolling back to {previous}")
        with self.seconds.step("rollback"):
            trouble = self._undo(Configuration(self.host, self.kind, previous))
        if trouble is None:
            return self._finish(Result.ROLLED_BACK, generation=self.host.generation(self.kind))
        return self._finish(Result.ROLLBACK_FAILED, reason=f"{reason} Going back failed: {trouble}")

    def _is_there(self, action: Action, running: str | None, committed: str | None) -> bool:
        if self.doubtful and action is not Action.BOOT:
            return False  # a link that points to a system does not say that its services run
        wanted = {Action.SWITCH: (running, committed), Action.TEST: (running,), Action.BOOT: (committed,)}
        return all(path == self.target.store_path for path in wanted[action])

    def _dry_activate(self) -> Deployment:
        self.watcher.step("Asking the release what it would do")
        with self.seconds.step("dry-activate"):
            status = activate(self.target, Action.DRY_ACTIVATE, self.log, self.watcher)
        running = self.host.running(self.kind)
        if status == 0:
            return self._finish(Result.DRY_RUN, previous=running)
        return self._finish(
            Result.FAILED, reason=f"dry-activate ended with status {status}.", previous=running
        )

    def _test(self, before: dict[str, Any]) -> Deployment | None:
        """Activate and verify; the end of the deployment where that did not go well."""
        failing = failing_units(self.host)
        self._move(State.TESTING, failing_before=sorted(failing), **before)
        self.watcher.step(f"Activating {self.target.store_path}")
        began = time.monotonic()
        with self.seconds.step("activate"):
            status = activate(self.target, Action.TEST, self.log, self.watcher)
        if status in _BLOCKED and self.host.running(self.kind) == before["previous"]:
            return self._finish(Result.BLOCKED, reason=_BLOCKED[status])
        self._move(State.VERIFYING)
        self.watcher.step("Verifying")
        with self.seconds.step("verify"):
            trouble, newly_failed = self._trouble(status, failing, began)
        return None if trouble is None else self.go_back(trouble, newly_failed)

    def _trouble(self, status: int, failing: frozenset[str], began: float) -> tuple[str | None, list[str]]:
        after = settled_failures(self.host, began, failing)
        newly = sorted(after - failing)
        if activation_failed(status, failing, after):
            units = f" These units fail now and did not before: {', '.join(newly)}." if newly else ""
            said = f"The activation ended with status {status}." if status else "The activation ended well."
            return said + units, newly
        if self.confirm is not None and (reason := try_reach_hub(self.confirm)):
            return f"After the activation the hub could not be reached any more: {reason}", newly
        return None, newly

    def _undo(self, previous: Configuration) -> str | None:
        """None when what ran before runs again; else what is wrong. Tries all of it, whatever fails first."""
        wrong = []
        try:
            restore(previous, self.log, self.watcher, self.deployment.previous_generation)
        except PisteError as error:
            wrong.append(error.message)
        try:
            began = time.monotonic()
            status = activate(previous, Action.TEST, self.log, self.watcher)
            wrong += self._wrong_again(previous, status, began)
        except PisteError as error:
            wrong.append(error.message)
        return " ".join(wrong) or None

    def _wrong_again(self, previous: Configuration, status: int, began: float) -> Iterator[str]:
        before = frozenset(self.deployment.failing_before)
        after = settled_failures(self.host, began, before)
        if activation_failed(status, before, after):
            units = f"; failing units: {', '.join(sorted(after))}" if after else ""
            yield f"The activation ended with status {status}{units}."
        running = self.host.running(self.kind)
        if running != previous.store_path:
            yield f"{running} runs instead of {previous.store_path}."

    def _move(self, state: State, **facts: Any) -> None:
        self.deployment = self.writer.move(self.deployment, state, **facts)

    def _finish(self, result: Result, **facts: Any) -> Deployment:
        self._move(State.FINISHED, result=result, **facts)
        return self.deployment
