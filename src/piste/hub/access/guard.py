"""The questions that come after the table: which paths, which projects, which output. Every stage asks here.

What the guard refuses is answered like what is missing, unless the caller is known to see it.
"""

import msgspec

from piste.hub.access import queries, requirement_rule
from piste.hub.access.closures import ClosureTokens
from piste.hub.access.records import Actor, Kind, Organization, Permission, Project, Reach, Resource, Role
from piste.hub.access.rules import decide, permissions_of
from piste.hub.db.base import Database
from piste.hub.errors import HubError, not_found
from piste.nix.flake_ref import FlakeRefError, format_attribute_path, parse_attribute_path


class Guard:
    """Decides with the help of the database."""

    def __init__(self, database: Database, closures: ClosureTokens) -> None:
        self._database = database
        self._closures = closures

    def require(self, actor: Actor, permission: Permission, resource: Resource) -> None:
        """Nothing if the actor may; else the error that this actor is to see."""
        verdict = decide(actor, permission, resource)
        if verdict.allowed:
            return
        if not verdict.visible:
            raise not_found(verdict.reason if actor.kind is not Kind.NOBODY else None)
        if actor.kind is Kind.NOBODY:
            raise HubError(
                "credential-missing",
                "This needs a credential.",
                hint="Log in with `piste login`, or set PISTE_TOKEN_FILE.",
                reason=verdict.reason,
            )
        raise HubError(
            "forbidden",
            f"Your credential does not allow this: {verdict.reason}.",
            hint="Ask an admin of the organization.",
            reason=verdict.reason,
        )

    def check_create(self, actor: Actor, organization: Organization, project: str) -> None:
        """Before a project is made: a session makes the one that it publishes to, and an identity one that
        rules wait for. Any other answers like one that is there and may not be seen."""
        trusted = actor.trusted
        if trusted is not None and (organization.id, project.lower()) not in trusted.pending:
            raise not_found("no rule waits for a project of this name")
        if actor.session is not None and project.lower() != actor.session.project_name.lower():
            raise not_found("the session publishes to another project")

    def may(self, actor: Actor, permission: Permission, resource: Resource) -> bool:
        return decide(actor, permission, resource).allowed

    async def person(self, id_: str) -> Actor | None:
        """A person without a credential, for what was done in their name before and goes on by itself."""
        rows = await queries.person(self._database, id_)
        if not rows:
            return None
        roles = {each["member_of"]: Role(each["role"]) for each in rows if each["member_of"] is not None}
        superuser = bool(rows[0]["superuser"])
        return Actor(kind=Kind.USER, person=id_, name=rows[0]["name"], superuser=superuser, roles=roles)

    async def may_read_path(self, actor: Actor, project: Project, hash_part: str) -> bool:
        """Whether the narinfo (and listing) of a path may be read through a project. Says nothing on whether
        it is there."""
        if not self.may(actor, Permission.CACHE_READ, project):
            return False
        if actor.closure is None:
            return True
        contents = await self._closures.contents(actor.closure.manifest)
        return contents is not None and hash_part in contents.hash_parts

    async def may_read_nar(self, actor: Actor, project: Project, nar_hash: str) -> bool:
        """Whether a NAR (`sha256:<nix32>`) may be read through a project, provided that the project has
        it."""
        if not self.may(actor, Permission.CACHE_READ, project):
            return False
        if actor.closure is None:
            return True
        contents = await self._closures.contents(actor.closure.manifest)
        return contents is not None and nar_hash in contents.nar_hashes

    def may_read_manifest(self, actor: Actor, project: Project, manifest: str) -> bool:
        """Whether a manifest (`sha256:<hex>`) of a project may be read."""
        if not self.may(actor, Permission.CACHE_READ, project):
            return False
        return actor.closure is None or actor.closure.manifest == manifest

    async def readable_projects(self, actor: Actor, ids: list[str]) -> list[Project]:
        """Those among projects (ids) whose cache is part of what the actor reads at the root address.
        Unlisted ones are only for those who name them, so they belong to it for members alone."""
        found = await queries.projects_by_id(self._database, msgspec.json.encode(ids).decode())
        return [project for project in found if self._at_root(actor, project)]

    def reach(self, actor: Actor) -> Reach:
        """What a look-up at the root address may touch, so that its time tells nothing of the rest. Whether
        the actor may read what it finds is for `readable_projects` to say."""
        closure = [actor.closure.project] if actor.closure is not None else []
        return Reach(
            everything=actor.superuser and actor.organization is None,
            organizations=sorted(self._own(actor)),
            projects=sorted(actor.trusted.projects) if actor.trusted is not None else closure,
        )

    async def organizations_of(self, actor: Actor) -> list[Organization]:
        """The organizations that an actor belongs to; all of them for a superuser that is not confined."""
        if actor.superuser and actor.organization is None:
            found = await queries.all_organizations(self._database)
        else:
            own = msgspec.json.encode(self._own(actor)).decode()
            found = await queries.organizations_by_id(self._database, own)
        return sorted(found, key=lambda each: each.name.lower())

    async def writable_projects(self, actor: Actor) -> list[Project]:
        """Those whose cache the actor fills."""
        if actor.trusted is not None:
            ids = msgspec.json.encode(sorted(actor.trusted.projects)).decode()
            found = await queries.projects_by_id(self._database, ids)
        else:
            found = await self.visible_projects(actor)
        return [project for project in found if self.may(actor, Permission.CACHE_WRITE, project)]

    async def visible_projects(self, actor: Actor, organization: Organization | None = None) -> list[Project]:
        """What a listing shows to the actor: public projects, and all of the actor's organizations."""
        found = [
            project
            for project in await queries.all_projects(self._database)
            if (organization is None or project.organization == organization.id)
            and self.may(actor, Permission.PROJECT_READ, project)
            and (project.visibility == "public" or self._is_insider(actor, project))
        ]
        return sorted(found, key=lambda one: (one.organization_name.lower(), one.name.lower()))

    def check_resolve(self, actor: Actor, project: Resource, requirement: str, attribute: str) -> None:
        """Before a release is looked for: whether this credential may ask for it at all. HubError if not."""
        self.require(actor, Permission.OUTPUT_RESOLVE, project)
        binding = actor.binding
        if binding is None:
            return
        if _canonical(attribute) != _canonical(binding.attribute):
            raise HubError(
                "forbidden",
                f"This token resolves the output `{binding.attribute}` alone.",
                hint="Ask an admin of the organization for a token that is bound to the other output.",
            )
        if not requirement_rule.allowed(binding.requirement, requirement):
            raise _requirement_not_allowed(binding.requirement)

    def check_release(self, actor: Actor, requirement: str, version: str) -> None:
        """After a release was chosen: whether this credential may have it. HubError if not."""
        binding = actor.binding
        if binding is None:
            return
        if not requirement_rule.release_agrees(
            binding.requirement, requirement, version, binding.minimum_version
        ):
            raise _requirement_not_allowed(binding.requirement, binding.minimum_version)

    def may_resolve_exactly(self, actor: Actor, project: Project, version: str, attribute: str) -> bool:
        """Whether the actor would be given this output of this release, asking for its exact version."""
        if not self.may(actor, Permission.OUTPUT_RESOLVE, project):
            return False
        binding = actor.binding
        if binding is None:
            return True
        asked = f"={version}"
        return (
            _canonical(attribute) == _canonical(binding.attribute)
            and requirement_rule.allowed(binding.requirement, asked)
            and requirement_rule.release_agrees(binding.requirement, asked, version, binding.minimum_version)
        )

    def _own(self, actor: Actor) -> list[str]:
        """Organizations (ids) in which a person may something; not all of a superuser's."""
        ids = {*actor.roles, *([actor.organization] if actor.organization else [])}
        return [each for each in ids if permissions_of(actor, each)]

    def _at_root(self, actor: Actor, project: Project) -> bool:
        if not self.may(actor, Permission.CACHE_READ, project):
            return False
        # Who is bound to projects is allowed to read those alone, whatever they are.
        bound = actor.closure is not None or actor.trusted is not None
        return bound or project.visibility == "public" or self._is_insider(actor, project)

    def _is_insider(self, actor: Actor, project: Project) -> bool:
        return Permission.PROJECT_READ in permissions_of(actor, project.organization)


def _requirement_not_allowed(bound: str, minimum: str | None = None) -> HubError:
    hint = f"The version must not be below {minimum}." if minimum is not None else None
    return HubError("requirement-not-allowed", requirement_rule.explain(bound), hint=hint)


def _canonical(attribute: str) -> str:
    try:
        return format_attribute_path(parse_attribute_path(attribute))
    except FlakeRefError:
        return attribute
