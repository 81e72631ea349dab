"""Back to a generation that this host ran before, by the same steps as forward: test, verify, commit."""

from piste.client.credentials import Credential
from piste.host.activate import Configuration, check_configuration
from piste.host.engine import outcome, recover
from piste.host.journal import Journal
from piste.host.place import Host, system_type
from piste.host.records import Action, Deployment, Kind, Outcome, Result, State, Watcher
from piste.host.stopwatch import Stopwatch
from piste.host.switch import Switch
from piste.lib.errors import PisteError, UsageError
from piste.nix.store_path import StorePath, StorePathError


def roll_back(
    host: Host, kind: Kind, to: str | None, watcher: Watcher, *, confirm: Credential | None = None
) -> Outcome:
    """Go to generation or store path `to`; without, to the generation before the one that runs."""
    host.check_bootable()
    journal = Journal(host.state_folder(kind))
    with journal.writer("piste rollback") as writer:
        recover(host, journal, writer, watcher)
        generation, path = choose(host, kind, to)
        known = _known(journal, path)
        target = Configuration(host, kind, path)
        if not host.store.real_path(path).exists():
            raise PisteError(
                "path-gone",
                f"{path} is not in the store any more.",
                hint="Fetch its release again: `piste apply` with the exact version, as `piste history`"
                " shows it.",
            )
        check_configuration(target, system_type())
        deployment = writer.begin(
            kind=kind,
            action=Action.SWITCH,
            store_path=path,
            reference=known.reference if known else None,
            organization=known.organization if known else None,
            project=known.project if known else None,
            version=known.version if known else None,
        )
        deployment = writer.move(deployment, State.FETCHED)
        seconds = Stopwatch()
        log = journal.log_file(deployment.deployment)
        doubtful = journal.ended_badly()
        switch = Switch(writer, deployment, target, log, watcher, confirm, generation, doubtful, seconds)
        return outcome(switch.perform(Action.SWITCH), seconds)


def choose(host: Host, kind: Kind, to: str | None) -> tuple[int | None, str]:
    """The generation (None: there is none yet) and the store path that are meant."""
    generations = host.generations(kind)
    if to is None:
        return _before(host, kind, generations)
    if to.isdecimal():
        if int(to) not in generations:
            known = ", ".join(map(str, generations)) or "none"
            raise UsageError(
                "no-such-generation", f"There is no generation {to}.", hint=f"There are: {known}."
            )
        return int(to), generations[int(to)]
    try:
        path = str(StorePath.parse(to))
    except StorePathError as error:
        raise UsageError(
            "bad-target",
            f"{to!r} is neither a generation nor a store path.",
            hint="`piste history` shows both.",
        ) from error
    matching = [number for number, known in generations.items() if known == path]
    return (matching[-1] if matching else None), path


def _before(host: Host, kind: Kind, generations: dict[int, str]) -> tuple[int, str]:
    """The newest generation below the current one that is something else than what runs."""
    current = host.generation(kind)
    running = host.running(kind)
    below = [number for number in generations if current is None or number <= current]
    for number in reversed(below):
        if generations[number] != running:
            return number, generations[number]
    raise PisteError(
        "nothing-before",
        "There is no generation before the one that runs.",
        hint="`piste history` lists what was deployed; `piste apply` with an exact version fetches an"
        " older release.",
    )


def _known(journal: Journal, path: str) -> Deployment | None:
    """What the journal knows of a store path: the release that it came from."""
    committed = (Result.COMMITTED, Result.STAGED, Result.UNCHANGED, Result.TESTED)
    return next(
        (
            one
            for one in journal.deployments()
            if one.store_path == path and one.result in committed and one.reference
        ),
        None,
    )
