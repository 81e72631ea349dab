"""The hub's operations, one method each: the table of the HTTP API from the client's side."""

from collections.abc import Iterator

import msgspec

from piste.client.address import require_safe
from piste.client.hub import HubConnection
from piste.wire.identities import CreatedSession, NewSession, NewTrust, Trust
from piste.wire.organizations import (
    Member,
    NewMember,
    NewOrganization,
    NewSigningKey,
    NewUpstream,
    Organization,
    RevokedKey,
    SigningKey,
    Status,
    Upstream,
)
from piste.wire.publication import (
    Declaration,
    Declared,
    DeclaredPath,
    Finish,
    OpenPublication,
    Publication,
    Published,
    Unsigned,
)
from piste.wire.pushes import FinishedPush, LackingPaths, OpenedPush, WantedPaths
from piste.wire.releases import NewProject, Project, ProjectChange, Release, ReleaseDetails, Yank
from piste.wire.resolution import Resolution
from piste.wire.tokens import CreatedToken, NewToken, NewTokens, RotateToken, Token

_API = ("api", "v1")


class HubClient(HubConnection):
    """Every operation that commands ask a hub for."""

    def status(self) -> Status:
        return self.get(Status, *_API, "status")

    # organizations

    def organizations(self) -> list[Organization]:
        return self.get(list[Organization], *_API, "organizations")

    def create_organization(self, name: str) -> Organization:
        return self.post(Organization, NewOrganization(name), *_API, "organizations")

    def organization(self, name: str) -> Organization:
        return self.get(Organization, *_API, "organizations", name)

    def members(self, organization: str) -> list[Member]:
        return self.get(list[Member], *_API, "organizations", organization, "members")

    def add_member(self, organization: str, member: NewMember) -> Member:
        return self.post(Member, member, *_API, "organizations", organization, "members")

    def remove_member(self, organization: str, person: str) -> None:
        self.delete(*_API, "organizations", organization, "members", person)

    def upstreams(self, organization: str) -> list[Upstream]:
        return self.get(list[Upstream], *_API, "organizations", organization, "upstreams")

    def add_upstream(self, organization: str, upstream: NewUpstream) -> Upstream:
        return self.post(Upstream, upstream, *_API, "organizations", organization, "upstreams")

    def remove_upstream(self, organization: str, url: str) -> None:
        self.delete(*_API, "organizations", organization, "upstreams", query={"url": url})

    def signing_keys(self, organization: str) -> list[SigningKey]:
        return self.get(list[SigningKey], *_API, "organizations", organization, "keys")

    def add_signing_key(self, organization: str, key: NewSigningKey) -> SigningKey:
        return self.post(SigningKey, key, *_API, "organizations", organization, "keys")

    def revoke_signing_key(self, organization: str, name: str, signatures: str | None) -> RevokedKey:
        """`signatures`: what becomes of those that it made alone, `keep` or `drop`; else it is not revoked
        while there are any.
        """
        query = {"signatures": signatures} if signatures is not None else None
        answer = self.delete(*_API, "organizations", organization, "keys", name, query=query)
        return self.decode(answer, RevokedKey)

    def tokens(self, organization: str) -> list[Token]:
        return self.get(list[Token], *_API, "organizations", organization, "tokens")

    def create_token(self, organization: str, token: NewToken) -> CreatedToken:
        return self.post(CreatedToken, token, *_API, "organizations", organization, "tokens")

    def create_tokens(self, organization: str, tokens: NewTokens) -> list[CreatedToken]:
        return self.post(list[CreatedToken], tokens, *_API, "organizations", organization, "tokens", "batch")

    def revoke_token(self, organization: str, token: str) -> None:
        self.delete(*_API, "organizations", organization, "tokens", token)

    def trust(self, organization: str) -> list[Trust]:
        return self.get(list[Trust], *_API, "organizations", organization, "trust")

    def add_trust(self, organization: str, trust: NewTrust) -> Trust:
        return self.post(Trust, trust, *_API, "organizations", organization, "trust")

    def remove_trust(self, organization: str, rule: str) -> None:
        self.delete(*_API, "organizations", organization, "trust", rule)

    def open_session(self, identity: str, wanted: NewSession) -> CreatedSession:
        """Exchange the identity of a CI (its JWT) for a session. Never repeated: an identity counts once."""
        require_safe(self.address)
        data = self.request(
            "POST",
            (*_API, "identities", "session"),
            msgspec.json.encode(wanted),
            headers={"Authorization": f"Bearer {identity}"},
        )
        return self.decode(data, CreatedSession)

    def rotate_token(self, organization: str, token: str, message: RotateToken) -> CreatedToken:
        path = (*_API, "organizations", organization, "tokens", token, "rotate")
        return self.post(CreatedToken, message, *path)

    def audit(self, organization: str | None, since: int | None) -> Iterator[str]:
        """Lines of the audit log of an organization, or of the hub's own."""
        query = {"since": str(since)} if since is not None else None
        path = ("audit",) if organization is None else ("organizations", organization, "audit")
        return self.lines(*_API, *path, query=query)

    # projects and releases

    def projects(self, **filters: str) -> list[Project]:
        """`organization`, `query` and `label` narrow the list."""
        return self.get(list[Project], *_API, "projects", query=filters)

    def create_project(self, organization: str, project: NewProject) -> Project:
        return self.post(Project, project, *_API, "organizations", organization, "projects")

    def project(self, organization: str, project: str) -> Project:
        return self.get(Project, *_API, "projects", organization, project)

    def change_project(self, organization: str, project: str, change: ProjectChange) -> Project:
        return self.patch(Project, change, *_API, "projects", organization, project)

    def delete_project(self, organization: str, project: str) -> None:
        self.delete(*_API, "projects", organization, project)

    def delete_release(self, organization: str, project: str, version: str) -> None:
        self.delete(*_API, "projects", organization, project, "releases", version)

    def releases(self, organization: str, project: str, limit: int | None = None) -> list[Release]:
        query = {"limit": str(limit)} if limit is not None else None
        return self.get(list[Release], *_API, "projects", organization, project, "releases", query=query)

    def versions(self, organization: str, project: str, requirement: str) -> list[Release]:
        return self.get(list[Release], *_API, "projects", organization, project, "versions", requirement)

    def release(self, organization: str, project: str, requirement: str) -> ReleaseDetails:
        return self.get(ReleaseDetails, *_API, "projects", organization, project, "releases", requirement)

    def yank(self, organization: str, project: str, version: str, yank: Yank) -> Release:
        path = (*_API, "projects", organization, project, "releases", version, "yank")
        return self.put(Release, yank, *path)

    def unyank(self, organization: str, project: str, version: str) -> None:
        self.delete(*_API, "projects", organization, project, "releases", version, "yank")

    def resolve(
        self, organization: str, project: str, requirement: str, attribute: str, *, token: bool = False
    ) -> Resolution:
        """Resolve one output; with `token`, also what reads its closure for an hour."""
        path = (*_API, "projects", organization, project, "resolve", requirement, attribute)
        return self.get(Resolution, *path, query={"token": "true"} if token else None)

    # publication

    def open_publication(self, organization: str, project: str, message: OpenPublication) -> Publication:
        return self.post(Publication, message, *_API, "projects", organization, project, "publications")

    def declare(self, publication: Publication, declaration: Declaration) -> Declared:
        path = (*publication_path(publication), "declarations")
        return self.post(Declared, declaration, *path, repeatable=True)

    def staged_paths(self, publication: Publication) -> list[DeclaredPath]:
        """All that is there of a publication, whoever brought it."""
        return self.get(list[DeclaredPath], *publication_path(publication), "paths")

    def finish(self, publication: Publication) -> Published:
        """Where the hub signs. Repeatable: the hub answers the same while the publication is kept."""
        return self.post(Published, Finish(), *publication_path(publication), "finish", repeatable=True)

    def finish_signed(self, publication: Publication, message: Finish) -> Published | Unsigned:
        """Where the publisher signs too; what it is to sign is answered first."""
        data = self.request(
            "POST",
            (*publication_path(publication), "finish"),
            msgspec.json.encode(message),
            repeatable=True,
        )
        fields = self.decode(data, dict[str, object])
        if "statements" in fields:
            return self.decode(data, Unsigned)
        return self.decode(data, Published)

    def abandon(self, publication: Publication) -> None:
        self.delete(*publication_path(publication))

    # pushes

    def lacking(self, organization: str, project: str, wanted: WantedPaths) -> LackingPaths:
        """What a project's cache lacks of some paths. Changes nothing."""
        path = (*_push_base(organization, project), "missing")
        return self.post(LackingPaths, wanted, *path, repeatable=True)

    def open_push(self, organization: str, project: str, declaration: Declaration) -> OpenedPush:
        """Repeatable: one whose answer was lost expires."""
        return self.post(OpenedPush, declaration, *_push_base(organization, project), repeatable=True)

    def declare_more(self, organization: str, project: str, push: str, declaration: Declaration) -> Declared:
        path = (*push_path(organization, project, push), "declarations")
        return self.post(Declared, declaration, *path, repeatable=True)

    def finish_push(self, organization: str, project: str, push: str) -> FinishedPush:
        path = (*push_path(organization, project, push), "finish")
        return self.decode(self.request("POST", path, b"", repeatable=True), FinishedPush)

    def abandon_push(self, organization: str, project: str, push: str) -> None:
        self.delete(*push_path(organization, project, push))


def publication_path(publication: Publication) -> tuple[str, ...]:
    """The segments of a publication's address."""
    project = (publication.organization, publication.project)
    return (*_API, "projects", *project, "publications", publication.id)


def push_path(organization: str, project: str, push: str) -> tuple[str, ...]:
    """The segments of a push's address."""
    return (*_push_base(organization, project), push)


def _push_base(organization: str, project: str) -> tuple[str, ...]:
    return (*_API, "projects", organization, project, "pushes")
