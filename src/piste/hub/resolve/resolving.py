"""Resolution: a requirement and an attribute path in, one store path and how to read its closure out.

What a bound credential may ask at all was decided before; what it may have is asked after the release is
known.
"""

from urllib.parse import quote

import msgspec

from piste.hub.access.records import Actor, Kind, Project
from piste.hub.registry import queries
from piste.hub.registry.availability import ensure_available
from piste.hub.registry.choosing import choose, parse_requirement
from piste.hub.registry.records import OutputRow, ReleaseRow
from piste.hub.resolve import rules
from piste.hub.services import Services
from piste.nix.closure import ClosureError
from piste.nix.flake_ref import Reference, parse_attribute_path
from piste.semver.requirement import strip_url_form
from piste.wire.resolution import Resolution


async def resolve(
    services: Services, project: Project, actor: Actor, requirement: str, attribute: str, *, token: bool
) -> Resolution:
    """What a requirement and an attribute path mean now; with a closure token for it if `token`."""
    parsed, wanted = parse_requirement(requirement), rules.parse_attribute(attribute)
    release = await choose(services.database, project, parsed)
    services.guard.check_release(actor, requirement, release.version)
    output = await _output(services, project, actor, release, wanted)
    found = _resolution(services, project, strip_url_form(requirement), release, output)
    if not token:
        return found
    text, expires = await services.closures.issue(actor, project.id, found.manifest)
    return msgspec.structs.replace(found, token=text, token_expires_at=expires)


async def _output(
    services: Services, project: Project, actor: Actor, release: ReleaseRow, attribute: str
) -> OutputRow:
    shown = f"{project.organization_name}/{project.name}/={release.version}"
    output = await queries.output(services.database, release.id, attribute)
    if output is None:
        recorded = await queries.outputs(services.database, release.id)
        output = await services.workers.run(rules.spelt_loosely, attribute, recorded)
        if output is None:
            others = [] if actor.kind is Kind.RESOLVE_ONLY else [row.attribute for row in recorded]
            raise await services.workers.run(rules.attribute_not_found, attribute, shown, others)
    try:
        available = await ensure_available(services, project, release, output)
    except ClosureError as error:
        raise rules.not_in_order(output.attribute, error) from error
    if isinstance(available, int):
        raise rules.not_available(output.attribute, shown, available)
    return available


def _resolution(
    services: Services, project: Project, requirement: str, release: ReleaseRow, output: OutputRow
) -> Resolution:
    reference = Reference(
        project.organization_name, project.name, requirement, parse_attribute_path(output.attribute)
    )
    owner, name = quote(project.organization_name, safe=""), quote(project.name, safe="")
    return Resolution(
        reference=str(reference),
        organization=project.organization_name,
        project=project.name,
        requirement=requirement,
        version=release.version,
        attribute_path=output.attribute,
        store_path=output.store_path,
        system=output.system,
        release_id=release.id,
        manifest=output.manifest or "",
        statement=output.statement or "",
        statement_signatures=msgspec.json.decode(output.statement_signatures or "[]", type=list[str]),
        cache_url=f"{services.settings.public_url}/cache/{owner}/{name}",
    )
