"""Where no token was given, the identity of the CI counts. A publication exchanges it for a session that
publishes this one release; a push sends it as it is, and a new one when it has expired.
"""

import time
from typing import Final

from piste.client.api import HubClient
from piste.client.identity import CiIdentity, audience_for, find_identity
from piste.lib.errors import AccessError, PisteError
from piste.wire.identities import NewSession

# An issuer without numbers of its own gives the same text within one second.
_NEXT_SECOND: Final = 1.1


def sign_in(client: HubClient, identity: CiIdentity, wanted: NewSession) -> None:
    """From here on the client speaks with a session."""
    audience = audience_for(client.address.host)
    try:
        session = client.open_session(identity.token(audience), wanted)
    except PisteError as error:
        if error.ref != "identity-used" or not identity.renewable:
            raise
        time.sleep(_NEXT_SECOND)
        session = client.open_session(identity.token(audience), wanted)
    client.use_token(session.token)


def sign_in_to_push(client: HubClient) -> None:
    """From here on the client speaks with a token or an identity; AccessError where there is neither."""
    if client.logged_in:
        return
    identity = find_identity()
    if identity is None:
        raise AccessError(
            "credential-missing",
            "Pushing needs a token, or a CI whose identity the project trusts.",
            hint="Run `piste login`, set PISTE_TOKEN_FILE, or see `piste trust`.",
        )
    audience = audience_for(client.address.host)
    renew = (lambda: identity.token(audience)) if identity.renewable else None
    client.use_token(identity.token(audience), renew)
