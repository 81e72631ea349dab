"""`piste org`: organizations, their members, their keys, and the upstream caches that they trust."""

from typing import Annotated, Literal

from cyclopts import App, Parameter

from piste.cli import show
from piste.cli.options import Hub, Json, TokenFile, connect
from piste.lib.errors import UsageError
from piste.nix.signature import PublicKey, SignatureKeyError
from piste.wire.organizations import NewMember, NewSigningKey, NewUpstream, Organization

app = App(
    name="org",
    help="""Organizations, their members, keys and upstream caches.

    For example:

        piste org create acme

        piste org upstream add acme https://cache.nixos.org cache.nixos.org-1:6NCH…
    """,
)
keys = App(name="keys", help="Keys that sign an organization's paths and releases, and who holds them.")
app.command(keys)
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


@keys.command(name="add")
def add_key(
    name: Name,
    key: Annotated[str, Parameter(name="KEY", help="NAME:BASE64, the public half.")],
    /,
    *,
    hub: Hub = None,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Register a key that the publishers hold. The hub is told its public half only.

    From then on `piste publish --signing-key-file` signs with it. The hub goes on signing with its own key
    beside that, until that one is revoked: then the hub can sign nothing more for the organization, and
    every release needs the publisher's signature. In this order nothing is ever without a signature that
    a host accepts:

        nix key generate-secret --key-name acme-publisher-1 > acme.key

        piste org keys add acme "$(nix key convert-secret-to-public < acme.key)"

        # every host:     piste login --trusted-key NAME:BASE64, also with the key that it had

        # every publisher: piste publish --signing-key-file acme.key

        piste org keys revoke acme acme-1
    """
    try:
        public = PublicKey.parse(key)
    except SignatureKeyError as error:
        # Never quoted: it may be a secret key, typed by mistake.
        raise UsageError(
            "bad-key",
            f"This is not the public half of a key: {error}.",
            hint="`nix key convert-secret-to-public` writes it. A secret key that was given here was readable"
            " for every user of this machine: make another.",
        ) from error
    with connect(hub, token_file) as client:
        added = client.add_signing_key(name, NewSigningKey(str(public)))
        held_by_hub = [each for each in client.signing_keys(name) if each.held_by == "hub"]
    if as_json:
        show.data(added)
        return
    show.say(f"Publishers sign for {name} with {added.public_key}.")
    for each in held_by_hub:
        old = each.public_key.partition(":")[0]
        show.say(
            f"The hub signs beside them, with {old}, until `piste org keys revoke {name} {old}`: from then on"
            f" it can't sign for {name}. Let every host trust the new key before that."
        )


@keys.command(name="list")
def list_keys(name: Name, /, *, hub: Hub = None, token_file: TokenFile = None, as_json: Json = False) -> None:
    """List the keys of an organization, the newest first, and who holds them."""
    with connect(hub, token_file) as client:
        found = client.signing_keys(name)
    if as_json:
        show.data(found)
        return
    rows = [
        (
            each.public_key,
            each.held_by,
            show.moment(each.created_at),
            show.moment(each.revoked_at) if each.revoked_at is not None else "",
        )
        for each in found
    ]
    show.table(("key", "held by", "since", "revoked"), rows)


@keys.command(name="revoke")
def revoke_key(
    name: Name,
    key: Annotated[str, Parameter(name="KEY", help="The key's name.")],
    /,
    *,
    signatures: Annotated[
        Literal["keep", "drop"] | None,
        Parameter(help="What becomes of what no other key has signed; else such a key is not revoked."),
    ] = None,
    hub: Hub = None,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """End a key: it signs nothing more, and the hub's copy of it, if there is one, is deleted.

    Its signatures are taken away. What it alone has signed would then be refused by every host: publish
    those versions again first, with the other key, or say with --signatures what is to become of
    them. `keep` is for a key that is only replaced, `drop` for one that was stolen. Hosts trust
    a key until it is taken out of their login and their nix.conf.
    """
    with connect(hub, token_file) as client:
        ended = client.revoke_signing_key(name, key.partition(":")[0], signatures)
        left = client.signing_keys(name)
    if as_json:
        show.data(ended)
        return
    show.say(f"{key.partition(':')[0]} signs nothing more for {name}.")
    if not any(each.held_by == "hub" for each in left):
        show.say(f"The hub has no key of {name}: its publishers alone sign.")
    for each in ended.signing:
        show.line(each)


def _show(found: list[Organization], as_json: bool, *, one: bool = False) -> None:
    if as_json:
        show.data(found[0] if one else found)
        return
    show.table(("organization", "created"), [(o.name, show.moment(o.created_at)) for o in found])
