"""`piste org`: organizations, their members, and the upstream caches that they trust."""

from typing import Annotated, Literal

from cyclopts import App, Parameter

from piste.cli import show
from piste.cli.options import Hub, Json, TokenFile, connect
from piste.lib.errors import UsageError
from piste.nix.signature import PublicKey, SignatureKeyError
from piste.wire.organizations import NewMember, NewUpstream, Organization

app = App(
    name="org",
    help="""Organizations, their members and upstream caches.

    For example:

        piste org create acme

        piste org upstream add acme https://cache.nixos.org cache.nixos.org-1:6NCH…
    """,
)
upstream = App(name="upstream", help="Caches whose paths are pinned instead of stored again.")
app.command(upstream)

Name = Annotated[str, Parameter(name="ORG", help="The organization.")]
Person = Annotated[str, Parameter(name="PERSON", help="The person's name.")]
Url = Annotated[str, Parameter(name="URL", help="Address of the cache.")]


@app.command
def create(name: Name, /, *, hub: Hub = None, token_file: TokenFile = None, as_json: Json = False) -> None:
    """Create an organization, with a signing key of its own."""
    with connect(hub, token_file) as client:
        made = client.create_organization(name)
    _show([made], as_json, one=True)


@app.command(name="list")
def list_all(*, hub: Hub = None, token_file: TokenFile = None, as_json: Json = False) -> None:
    """List the organizations that you belong to."""
    with connect(hub, token_file) as client:
        _show(client.organizations(), as_json)


@app.command(name="show")
def show_one(name: Name, /, *, hub: Hub = None, token_file: TokenFile = None, as_json: Json = False) -> None:
    """Show an organization and the public keys that sign its paths."""
    with connect(hub, token_file) as client:
        found = client.organization(name)
    if as_json:
        show.data(found)
        return
    created = show.moment(found.created_at)
    show.fields({"name": found.name, "created": created, "key": found.public_keys})


@app.command
def members(name: Name, /, *, hub: Hub = None, token_file: TokenFile = None, as_json: Json = False) -> None:
    """List the members of an organization and what they are."""
    with connect(hub, token_file) as client:
        found = client.members(name)
    if as_json:
        show.data(found)
        return
    show.table(("person", "role", "since"), [(m.person, m.role, show.moment(m.since)) for m in found])


@app.command
def add_member(
    name: Name,
    person: Person,
    /,
    *,
    role: Annotated[Literal["owner", "admin", "member"], Parameter(help="What they become.")] = "member",
    hub: Hub = None,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Add a person to an organization, or give them another role."""
    with connect(hub, token_file) as client:
        added = client.add_member(name, NewMember(person, role))
    if as_json:
        show.data(added)
    else:
        show.say(f"{added.person} is {added.role} of {name}.")


@app.command
def remove_member(name: Name, person: Person, /, *, hub: Hub = None, token_file: TokenFile = None) -> None:
    """Take a person out of an organization."""
    with connect(hub, token_file) as client:
        client.remove_member(name, person)
    show.say(f"{person} is no longer a member of {name}.")


@upstream.command
def add(
    name: Name,
    url: Url,
    /,
    *keys: Annotated[str, Parameter(name="KEY", help="NAME:BASE64 of the cache; at least one.")],
    hub: Hub = None,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Trust a cache: what it holds is pinned to it, and hosts fetch it from there.

    For example:

        piste org upstream add acme https://cache.nixos.org \\
            cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=
    """
    if not keys:
        raise UsageError(
            "usage", "At least one public key of the cache is needed.", hint="KEY has the form NAME:BASE64."
        )
    for key in keys:
        try:
            PublicKey.parse(key)
        except SignatureKeyError as error:
            raise UsageError("bad-key", f"{key!r}: {error}.") from error
    with connect(hub, token_file) as client:
        added = client.add_upstream(name, NewUpstream(url, list(keys)))
    if as_json:
        show.data(added)
    else:
        show.say(f"{name} pins what {added.url} holds.")


@upstream.command(name="list")
def list_upstreams(
    name: Name, /, *, hub: Hub = None, token_file: TokenFile = None, as_json: Json = False
) -> None:
    """List the caches that an organization trusts."""
    with connect(hub, token_file) as client:
        found = client.upstreams(name)
    if as_json:
        show.data(found)
        return
    show.table(("url", "keys"), [(entry.url, " ".join(entry.public_keys)) for entry in found])


@upstream.command
def remove(name: Name, url: Url, /, *, hub: Hub = None, token_file: TokenFile = None) -> None:
    """Pin nothing new to a cache; what is pinned already stays so."""
    with connect(hub, token_file) as client:
        client.remove_upstream(name, url)
    show.say(f"{name} pins nothing more to {url}.")


def _show(found: list[Organization], as_json: bool, *, one: bool = False) -> None:
    if as_json:
        show.data(found[0] if one else found)
        return
    show.table(("organization", "created"), [(o.name, show.moment(o.created_at)) for o in found])
