"""Step 2 where no token was given: the identity of the CI is exchanged for a session that publishes this one
release.
"""

import time
from typing import Final

from piste.client.api import HubClient
from piste.client.identity import CiIdentity, audience_for
from piste.lib.errors import PisteError
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
