"""Build traces: taken from whoever may push, told to whoever may read logs.

What an organization says of an output holds for all of its projects, since one key vouches for it. Says
nothing of a path that the project does not have.
"""

import msgspec

from piste.hub.access.records import Actor, Permission, Project
from piste.hub.cache import queries, reading
from piste.hub.cache.records import TraceRecord
from piste.hub.cache.signing import served_signatures, valid_signatures
from piste.hub.errors import HubError, not_found
from piste.hub.services import Services
from piste.hub.trail import note
from piste.nix.realisation import DrvOutput, Realisation, RealisationError, parse_realisation


async def take_trace(services: Services, project: Project, about: DrvOutput, text: str) -> None:
    """Remember an entry; HubError says why not."""
    try:
        realisation = parse_realisation(text, about)
    except RealisationError as error:
        raise HubError("bad-path-info", f"The build trace is not accepted: {error}.") from error
    path = realisation.out_path
    held = await queries.path_of_project(services.database, project.id, path.hash_part)
    if held is None or held.name != path.name:
        raise HubError("bad-path-info", f"This project does not have {path}.", hint="Push the path first.")
    await _check_vouched(services, project, realisation)
    record = TraceRecord(
        project=project.id,
        out_path=path.base_name,
        dependents=msgspec.json.encode(realisation.dependents).decode(),
        signatures=msgspec.json.encode(realisation.signatures).decode(),
    )
    async with services.database.transaction() as connection:
        known = await queries.traced_in_organization(
            connection, project.organization, about.drv, about.output
        )
        if any((each.out_path, each.dependents) != (record.out_path, record.dependents) for each in known):
            raise HubError(
                "path-conflict",
                f"The organization says that {about} became something else.",
                hint="A build that gives other bytes each time was pushed from two places; keep the first.",
            )
        await queries.add_trace(connection, about.drv, about.output, record, services.clock())
        note(f"build trace {about} {path.base_name}")


async def trace_of(
    services: Services, actor: Actor, project: Project | None, about: DrvOutput
) -> Realisation:
    """What is said of an output, with all signatures; `project` is None at the root. HubError `not-found`
    where nothing is, or where projects disagree."""
    found = await queries.traces(
        services.database,
        project.id if project is not None else "",
        services.guard.reach(actor),
        about.drv,
        about.output,
    )
    readable = await reading.readable(services, actor, [each.project for each in found], project)
    told = [each for each in found if _may(services, actor, readable.get(each.project))]
    if len({(each.out_path, each.dependents) for each in told}) != 1:
        raise not_found()
    signatures: list[str] = []
    for each in told:
        realisation = each.realisation(about)
        keys = await services.keyring.keys_of(readable[each.project].organization)
        signatures += served_signatures(realisation.fingerprint(), realisation.signatures, keys)
    return told[0].realisation(about).with_signatures(dict.fromkeys(signatures))


def _may(services: Services, actor: Actor, project: Project | None) -> bool:
    return project is not None and services.guard.may(actor, Permission.CACHE_LOG, project)


async def _check_vouched(services: Services, project: Project, realisation: Realisation) -> None:
    """Where the hub can't sign, a publisher has to have done so."""
    keys = await services.keyring.keys_of(project.organization)
    if not keys.secret and not valid_signatures(
        realisation.fingerprint(), realisation.signatures, keys.publishers
    ):
        raise HubError(
            "bad-path-info",
            f"The build trace of {realisation.id} is not signed by a key of the organization.",
            hint="The organization keeps its keys to itself: let Nix sign with `secret-key-files`.",
        )
