"""Sending the source of a release. Says nothing of who may have it."""

from starlette.requests import Request
from starlette.responses import Response

from piste.hub.access.records import Project
from piste.hub.cache.sending import send_object
from piste.hub.registry import rules
from piste.hub.registry.records import ReleaseRow, source_key
from piste.hub.services import Services


async def send_source(
    services: Services, request: Request, project: Project, row: ReleaseRow, *, caching: str
) -> Response:
    """The tarball. What publishers wrote is never shown as a page of this hub: it is an attachment in a
    sandbox."""
    return await send_object(
        request,
        services.objects,
        source_key(row.source),
        media_type="application/gzip",
        # Nix keeps the old lock for an unchanged ETag, so it has to differ for each release; an object store
        # would send its own, which is the same for two releases of one source.
        etag=row.id,
        by_hub=True,
        headers={
            "Cache-Control": caching,
            "Link": rules.immutable_link(services.settings.public_url, project, row),
            "Content-Disposition": f'attachment; filename="{project.name}-{row.version}.tar.gz"',
            "Content-Security-Policy": "default-src 'none'; sandbox",
        },
    )
