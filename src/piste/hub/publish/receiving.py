"""How NARs come over HTTP, to a publication or a push: in the body of the request, or in parts that were put
before.
"""

from piste.hub.http import stream_body
from piste.hub.publish.records import PublicationRow
from piste.hub.publish.uploading import take_nars, take_nars_in_parts
from piste.hub.routing import Exchange
from piste.hub.services import Services
from piste.wire.publication import UploadedNars


async def nars_of(services: Services, exchange: Exchange, row: PublicationRow) -> UploadedNars:
    """Take the NARs of a request; `?upload=NAME&parts=N` says that its body has come in N parts."""
    asked = exchange.request.query_params
    if "upload" not in asked:
        return await take_nars(services, exchange.project, row, stream_body(exchange))
    return await take_nars_in_parts(services, exchange.project, row, asked["upload"], asked.get("parts", ""))
