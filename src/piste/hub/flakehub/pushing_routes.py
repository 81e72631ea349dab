"""What `flakehub-push` asks: is my token good, stage this release, here is its source, make it visible. The
steps are those of any publication; only the words differ.

It has to see exactly 200, retries nothing, and takes 409 for success: "this version is there already".
"""

import base64
import binascii
from typing import Final
from urllib.parse import unquote

import msgspec
from starlette.responses import Response

from piste.hub.access.records import Actor, Kind, Organization, Permission, Project
from piste.hub.access.status import status_of
from piste.hub.errors import HubError
from piste.hub.flakehub.errors import format_push_error
from piste.hub.flakehub.release_metadata import opening, parse_metadata
from piste.hub.http import json_response, stream_body, whole_body
from piste.hub.publish import finishing, staging, uploading
from piste.hub.publish.opening import find_to_finish
from piste.hub.publish.records import Announced
from piste.hub.publish.rules import SOURCE_LIMIT, checked_outputs
from piste.hub.requests import header
from piste.hub.routing import Exchange, Route, Scope
from piste.hub.services import Services
from piste.wire.publication import Finish, Unsigned

# A large flake has some thousand outputs, of some 300 bytes each.
METADATA_LIMIT: Final = 8 << 20
_STAGE: Final = "/upload/{org}/{project}/{version}/{length}/{tail*}"
_PUT: Final = "/upload-address/{address}"


class Staged(msgspec.Struct, frozen=True):
    """The names are the client's: no S3 has to be there."""

    s3_upload_url: str
    uuid: str


def routes(services: Services) -> list[Route]:
    pushing = _Pushing(services)
    table = [
        ("GET", "/token/status", Permission.STATUS, Scope.HUB, pushing.status, 0),
        ("POST", _STAGE, Permission.PROJECT_PUBLISH, Scope.PROJECT_TO_BE, pushing.stage, METADATA_LIMIT),
        ("POST", "/publish/{publication}", Permission.UPLOAD_FINISH, Scope.HUB, pushing.publish, 0),
    ]
    put = Route(
        "PUT",
        _PUT,
        Permission.UPLOAD_SOURCE,
        Scope.HUB,
        pushing.put,
        SOURCE_LIMIT,
        own_credential=True,
        format_error=format_push_error,
    )
    return [
        *(
            Route(method, pattern, permission, scope, handler, limit, format_error=format_push_error)
            for method, pattern, permission, scope, handler, limit in table
        ),
        put,
    ]


class _Pushing:
    def __init__(self, services: Services) -> None:
        self._services = services

    async def status(self, exchange: Exchange) -> Response:
        if exchange.actor.kind is Kind.NOBODY:
            raise HubError(
                "credential-missing",
                "This needs a credential.",
                hint="Set FLAKEHUB_PUSH_OIDC_TOKEN, or run it in a CI whose identity the project trusts.",
            )
        return json_response(await status_of(self._services, exchange.actor))

    async def stage(self, exchange: Exchange) -> Response:
        services, actor, asked = self._services, exchange.actor, exchange.parameters
        announced = Announced(parse_length(asked["length"]), parse_digest(exchange.tail))
        place = _place(exchange)
        async with services.workers.place(place.organization if isinstance(place, Project) else place.id):
            body = await whole_body(exchange)
            async with services.workers.taking_apart:
                wanted = await services.workers.run(_staging, body, announced, asked["version"], actor)
            staged = await staging.stage(services, actor, place, asked["project"], wanted)
        # The address is a secret: nobody on the way is to keep it.
        url = services.settings.public_url + _PUT.format(address=staged.address)
        return json_response(Staged(url, staged.publication), headers={"Cache-Control": "no-store"})

    async def put(self, exchange: Exchange) -> Response:
        secret, request = exchange.parameters["address"], exchange.request
        project, row, address = await staging.find_by_address(self._services, secret)
        check_put(address.announced, request.scope["headers"])
        await uploading.take_source(
            self._services,
            project,
            row,
            stream_body(exchange),
            announced=address.announced,
            address=staging.hash_address(secret),
        )
        return Response(status_code=200)

    async def publish(self, exchange: Exchange) -> Response:
        services, actor = self._services, exchange.actor
        project, row = await find_to_finish(services, actor, exchange.parameters["publication"])
        answer = await finishing.finish(services, project, actor, row, Finish())
        if isinstance(answer, Unsigned):
            raise HubError("signing-key-missing", "This release needs the signatures of its publisher.")
        return json_response(answer)


def _staging(body: bytearray, announced: Announced, version: str, actor: Actor) -> staging.Staging:
    """What the body says, and no more of it: taken apart it is many times as large."""
    message, declared, text = parse_metadata(body)
    issuer = actor.trusted.issuer if actor.trusted is not None else None
    return staging.Staging(
        opening=opening(message, version, issuer, actor.name),
        outputs=checked_outputs(declared),
        source=announced,
        document=text,
    )


def _place(exchange: Exchange) -> Project | Organization:
    if isinstance(exchange.resource, Organization):
        return exchange.resource
    return exchange.project


def parse_length(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise HubError("bad-request", "The address has no length of the source where one belongs.")
    return int(text)


def parse_digest(tail: str) -> str:
    """The hex of a SHA-256 that is the raw end of an address: base64 of the standard alphabet, so slashes
    belong to it, two in a row as well.
    """
    try:
        digest = base64.b64decode(unquote(tail), validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if len(digest) != 32:
        raise HubError(
            "bad-request",
            "The address does not end in a SHA-256 in base64.",
            hint="If a proxy stands before the hub, it must pass `//` and `/` in an address on as they come.",
        )
    return digest.hex()


def check_put(announced: Announced, headers: list[tuple[bytes, bytes]]) -> None:
    """Refuse what says itself that it is something else, before a byte of it is read."""
    length = header(headers, b"content-length")
    checksum = header(headers, b"x-amz-checksum-sha256")
    if length is not None and length != str(announced.size).encode():
        raise HubError("bad-source", f"{announced.size} bytes were announced for this address.")
    if checksum is not None and parse_digest(checksum.decode("latin-1")) != announced.digest:
        raise HubError("bad-source", "Another SHA-256 was announced for this address.")
