"""What ends with a membership: the tokens that a person holds of the organization, and every closure that any
of the person's tokens was given of its projects. All of it in the transaction that ends the membership.
"""

from piste.hub.access import token_queries
from piste.hub.db.base import Connection
from piste.hub.services import Services


async def end_credentials(services: Services, connection: Connection, organization: str, person: str) -> None:
    """`organization` and `person` are ids. Tokens that the person made for hosts and devices are the
    organization's and stay."""
    revocations = services.revocations
    for token in await token_queries.revoke_of_person(connection, organization, person, services.clock()):
        await revocations.add_token(connection, token)
    elsewhere = await token_queries.unconfined_of_person(connection, person)
    projects = await token_queries.projects_of(connection, organization) if elsewhere else []
    for token in elsewhere:
        await revocations.add_shares(connection, token, projects)
    await revocations.add_person(connection, person)
