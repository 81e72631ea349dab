"""An output that was only recorded becomes available by itself once its whole closure is in the project's
cache.

Found out when somebody asks for it. Its manifest is made then, and never changes after that. Where only the
organization's publishers sign, it waits until one of them publishes the version again.
"""

from contextlib import suppress

import msgspec

from piste.hub.access.records import Project
from piste.hub.cache import queries as cache_queries
from piste.hub.cache.records import StoredPath
from piste.hub.registry import queries
from piste.hub.registry.outputs import build_manifest, put_manifest, sign_statement, statement_text
from piste.hub.registry.records import OutputRow, ReleaseRow
from piste.hub.services import Services
from piste.nix.closure import ClosureError
from piste.nix.store_path import StorePath


async def ensure_available(
    services: Services, project: Project, release: ReleaseRow, output: OutputRow
) -> OutputRow | int:
    """The output with its manifest, or how many paths of its closure are known to be missing; 0 where
    only the signature of a publisher is. ClosureError for a circle, which clients that push in any order can
    bring.
    """
    if output.manifest is not None:
        return output
    keys = await services.keyring.signing_keys(project.organization)
    paths, missing = await _closure(services, project, StorePath.parse(output.store_path).base_name)
    if missing or not keys:
        return missing
    root = StorePath.parse(output.store_path).base_name
    built = await services.workers.run(build_manifest, root, paths)
    await put_manifest(services.objects, built)
    text = statement_text(project, release.version, release.sequence, output, built.digest)
    signed = sign_statement(text, keys)
    available = msgspec.structs.replace(
        output,
        manifest=built.digest,
        statement=signed.text,
        statement_signatures=signed.signatures_json,
    )
    async with services.database.transaction() as connection:
        counts = (built.path_count, built.nar_size)
        await queries.add_manifest(connection, built.digest, project.id, built.root, counts, services.clock())
        await queries.make_available(connection, release.id, available)
    # Another process may have been first; what is written counts.
    return await queries.output(services.database, release.id, output.attribute) or available


async def all_outputs(services: Services, project: Project, release: ReleaseRow) -> list[OutputRow]:
    """The outputs of a release, those that became available just now too."""
    rows = await queries.outputs(services.database, release.id)
    waiting = [row for row in rows if row.manifest is None]
    roots = [StorePath.parse(row.store_path).hash_part for row in waiting]
    there = {
        path.base_name for path in await cache_queries.paths_of_project(services.database, project.id, roots)
    }
    renewed: dict[str, OutputRow] = {}
    for row in waiting:
        if StorePath.parse(row.store_path).base_name in there:
            with suppress(ClosureError):  # what one output holds must not hide the others
                now = await ensure_available(services, project, release, row)
                if isinstance(now, OutputRow):
                    renewed[row.attribute] = now
    return [renewed.get(row.attribute, row) for row in rows]


async def _closure(services: Services, project: Project, root: str) -> tuple[dict[str, StoredPath], int]:
    """What the project has of a closure, by base name, a level at a time; and how many paths it lacks."""
    found: dict[str, StoredPath] = {}
    asked = {root}
    level = [root]
    while level:
        rows = await cache_queries.paths_of_project(
            services.database, project.id, [name[:32] for name in level]
        )
        wanted = set(level)
        fresh = [row for row in rows if row.base_name in wanted]
        found.update({row.base_name: row for row in fresh})
        level = sorted({name for row in fresh for name in row.references} - asked)
        asked.update(level)
    return found, len(asked) - len(found)
