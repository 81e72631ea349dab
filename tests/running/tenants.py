"""Organizations of a running hub, each with a project and with people of its own."""

from dataclasses import dataclass

from piste.client.address import parse_address
from piste.client.api import HubClient
from piste.client.credentials import Credential
from piste.lib.retry import Backoff
from piste.nix.signature import PublicKey
from piste.wire.releases import NewProject
from piste.wire.tokens import NewToken
from tests.hub.process import Hub


def client_of(hub: Hub, token: str | None, *, attempts: int = 1) -> HubClient:
    """Speaks with the hub as the holder of a token, and tries each request once."""
    return HubClient(Credential(parse_address(hub.url), token), backoff=Backoff(attempts=attempts))


@dataclass(frozen=True)
class Tenant:
    """An organization with a project, and the token of somebody who is a member of it and of nothing else."""

    hub: Hub
    organization: str
    project: str
    token: str

    @property
    def name(self) -> str:
        return f"{self.organization}/{self.project}"

    @property
    def cache_url(self) -> str:
        return f"{self.hub.url}/cache/{self.name}"

    @property
    def cache_path(self) -> str:
        return f"/cache/{self.name}"

    @property
    def api(self) -> str:
        return f"/api/v1/projects/{self.name}"

    @property
    def key(self) -> PublicKey:
        """What the organization signs with."""
        with client_of(self.hub, self.hub.admin) as client:
            return PublicKey.parse(client.organization(self.organization).public_keys[0])

    def client(self) -> HubClient:
        return client_of(self.hub, self.token)

    def another_project(self, project: str, visibility: str = "private") -> "Tenant":
        """The same people with another project of theirs."""
        with self.client() as client:
            client.create_project(self.organization, NewProject(project, visibility))
        return Tenant(self.hub, self.organization, project, self.token)

    def resolve_only(
        self, requirement: str, attribute: str, *, minimum: str | None = None, expires_in: int | None = None
    ) -> str:
        """A resolve-only token of the project."""
        wanted = NewToken(
            "resolve-only",
            "a host",
            project=self.project,
            requirement=requirement,
            attribute=attribute,
            minimum_version=minimum,
            expires_in=expires_in,
        )
        with client_of(self.hub, self.hub.admin) as client:
            return client.create_token(self.organization, wanted).token


def make_tenant(hub: Hub, organization: str, project: str, visibility: str = "private") -> Tenant:
    """A new organization and a project, with a publisher."""
    hub.as_admin("POST", "/api/v1/organizations", json={"name": organization})
    token = hub.make_member(organization, f"publisher-of-{organization}")
    with client_of(hub, token) as client:
        client.create_project(organization, NewProject(project, visibility))
    return Tenant(hub, organization, project, token)
