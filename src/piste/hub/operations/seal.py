"""Encrypts what lies open: secrets that were made before the operator gave a key. Also proves that the key is
the right one, before anything is served.
"""

from piste.hub.access.sealing import is_sealed, signing_key_place, token_key_place
from piste.hub.db.base import Connection
from piste.hub.services import Services


async def seal_secrets(services: Services) -> int:
    """How many secrets were encrypted. UsageError if some are sealed and the key is another one, or
    missing."""
    sealer = services.sealer
    token_keys = await services.database.all("SELECT id, secret FROM token_key")
    signing_keys = await services.database.all("SELECT id, secret FROM signing_key WHERE secret IS NOT NULL")
    stored = [
        *(("token_key", row["id"], row["secret"], token_key_place(row["id"])) for row in token_keys),
        *(("signing_key", row["id"], row["secret"], signing_key_place(row["id"])) for row in signing_keys),
    ]
    for _, _, secret, place in stored:
        sealer.open(secret, place)
    lying_open = [each for each in stored if not is_sealed(each[2])] if sealer.has_key else []
    if lying_open:
        async with services.database.transaction() as connection:
            for table, id_, secret, place in lying_open:
                await _replace(connection, table, id_, sealer.seal(secret, place))
    return len(lying_open)


async def _replace(connection: Connection, table: str, id_: int | str, sealed: bytes) -> None:
    if table == "token_key":
        await connection.run("UPDATE token_key SET secret = $2 WHERE id = $1", id_, sealed)
    else:
        await connection.run("UPDATE signing_key SET secret = $2 WHERE id = $1", id_, sealed)
