"""`piste hub …`: run a hub and look after it. What these commands do is in hub/; here they are named and
shown."""

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar
from urllib.parse import urlsplit

from cyclopts import App, Parameter

from piste.cli import show
from piste.cli.arguments import parse_duration
from piste.cli.options import Json
from piste.lib.errors import UsageError

if TYPE_CHECKING:
    from piste.hub.operations.backup import Backup
    from piste.hub.services import Services
    from piste.hub.settings import Settings

T = TypeVar("T")

app = App(
    name="hub",
    help="""Run a hub and look after it.

    For example:

        piste hub serve --data ./hub

        piste hub admin-token --data ./hub
    """,
)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a hub keeps what it keeps: options that all of its commands share."""

    data: Annotated[Path, Parameter(env_var="PISTE_DATA", help="Folder for everything that the hub keeps.")]
    database: Annotated[
        str | None,
        Parameter(
            env_var="PISTE_DATABASE",
            help="`sqlite` (in the data folder), or postgresql://…; with a password by the variable.",
        ),
    ] = None
    objects: Annotated[
        str | None,
        Parameter(env_var="PISTE_OBJECTS", help="Folder for objects; else in the data folder."),
    ] = None
    secrets_key_file: Annotated[
        Path | None,
        Parameter(
            env_var="PISTE_SECRETS_KEY_FILE",
            help="File with a key of at least 32 bytes, which encrypts signing and token keys at rest.",
        ),
    ] = None

    def database_url(self) -> str | None:
        """The database; UsageError for a password where every user can read it."""
        typed = self.database if self.database != os.environ.get("PISTE_DATABASE") else None
        if typed is not None and urlsplit(typed).password is not None:
            raise UsageError(
                "password-in-argument",
                "The database's password stands on the command line, where every user can read it.",
                hint="Give the whole address by the variable PISTE_DATABASE, and change that password.",
            )
        return self.database

    def settings(self) -> "Settings":
        """For operations beside the processes that serve."""
        from piste.hub.settings import make_settings

        return make_settings(
            self.data,
            database=self.database_url(),
            objects=self.objects,
            secrets_key_file=self.secrets_key_file,
        )


@app.command
def serve(
    *,
    place: Place,
    listen: Annotated[str, Parameter(help="HOST:PORT; port 0 takes a free one.")] = "127.0.0.1:8080",
    public_url: Annotated[str | None, Parameter(help="Address that clients reach the hub at.")] = None,
    tls_cert: Annotated[Path | None, Parameter(help="Certificate chain, PEM.")] = None,
    tls_key: Annotated[Path | None, Parameter(help="Its private key, PEM.")] = None,
    trusted_proxy: Annotated[
        tuple[str, ...],
        Parameter(
            negative="", help="Address or network of a proxy whose X-Forwarded-For is believed; repeatable."
        ),
    ] = (),
    proxy_socket: Annotated[
        Path | None,
        Parameter(
            help="A Unix socket beside; who may connect to it (its group) is believed like a trusted proxy."
        ),
    ] = None,
    accel_redirect: Annotated[
        str | None,
        Parameter(
            help="Where a trusted nginx serves the objects' folder internally, such as /_piste/objects/."
        ),
    ] = None,
    allow_egress: Annotated[
        tuple[str, ...],
        Parameter(
            negative="",
            help="Network or host outside of the public internet that the hub may fetch from, such as an "
            "issuer of identities in your own network; repeatable.",
        ),
    ] = (),
    failed_credentials: Annotated[
        int, Parameter(help="Wrong credentials a minute that one address gets an answer to.")
    ] = 120,
    sign_ins: Annotated[
        int, Parameter(help="Questions a minute who one is, for each token, or address without one.")
    ] = 600,
    resolutions: Annotated[
        int, Parameter(help="Resolutions a minute, for each token, or address without one.")
    ] = 1200,
) -> None:
    """Run the hub until SIGTERM. Makes what is missing at the first start.

    For example:

        piste hub serve --data ./hub

        piste hub serve --data /var/lib/piste-hub --public-url https://hub.example.org
    """
    from piste.hub.serve import serve as run
    from piste.hub.settings import RateLimits, make_settings

    run(
        make_settings(
            place.data,
            listen=listen,
            public_url=public_url,
            database=place.database_url(),
            objects=place.objects,
            secrets_key_file=place.secrets_key_file,
            tls_cert=tls_cert,
            tls_key=tls_key,
            trusted_proxies=trusted_proxy,
            allow_egress=allow_egress,
            rate_limits=RateLimits(failed_credentials, sign_ins, resolutions),
            proxy_socket=proxy_socket,
            accel_redirect=accel_redirect,
        )
    )


@app.command
def admin_token(*, place: Place, json: Json = False) -> None:
    """Print a user token with every right. It expires in an hour; nothing else makes a first one.

    For example, on the machine of the hub:

        piste hub admin-token --data /var/lib/piste-hub
    """
    from piste.hub.operations.bootstrap import make_admin_token

    token = _with_services(place, "admin-token", make_admin_token)
    if json:
        show.data({"token": token, "kind": "user", "expires_in": 3600})
    else:
        show.line(token)


@app.command
def public_key(
    *,
    place: Place,
    org: Annotated[str | None, Parameter(help="Organization; without it the keys of all.")] = None,
    json: Json = False,
) -> None:
    """Print the keys that sign, NAME:BASE64, one a line, for `trusted-public-keys`."""
    from piste.hub.operations.bootstrap import public_keys

    keys = _with_services(place, "public-key", lambda services: public_keys(services, org))
    if json:
        show.data(keys)
    else:
        for key in keys:
            show.line(key)


def _with_services(place: Place, name: str, work: "Callable[[Services], Awaitable[T]]") -> T:
    """Run one operation on the hub's data, beside any process that serves it."""
    from piste.hub.operations.run import run_operation

    if not place.data.exists():
        show.warn(f"There was no hub in {place.data}: this is a new one.")
    return run_operation(place.settings(), work, name=f"piste hub {name}")


@app.command
def gc(
    *,
    place: Place,
    grace: Annotated[str, Parameter(help="How long everything stays at least: 24h, 7d.")] = "24h",
    dry_run: Annotated[bool, Parameter(negative="", help="Only say what would go.")] = False,
    json: Json = False,
) -> None:
    """Remove NARs, manifests, sources and logs that nothing refers to. The hub may go on serving."""
    from piste.hub.operations.collect import collect

    seconds = parse_duration(grace)
    found = _with_services(
        place,
        "gc",
        lambda services: collect(services, grace_seconds=seconds, dry_run=dry_run),
    )
    if json:
        show.data(found)
        return
    counts = ", ".join(f"{count} {kind}" for kind, count in found.objects.items() if count) or "nothing"
    show.line(f"{'Would remove' if dry_run else 'Removed'} {counts}: {show.size(found.bytes)}.")


@app.command
def check(
    *,
    place: Place,
    contents: Annotated[
        bool, Parameter(negative="", help="Also read every NAR and compare its hash.")
    ] = False,
    json: Json = False,
) -> int:
    """Check that everything that the database speaks of is there. Changes nothing; 1 if something is
    missing."""
    from piste.hub.operations.check import check as run

    found = _with_services(place, "check", lambda services: run(services, contents=contents))
    if json:
        show.data(found)
    else:
        for problem in found.problems:
            show.line(f"{problem.name}: {problem.problem}")
        counts = f"{found.nars} NARs, {found.manifests} manifests, {found.sources} releases"
        show.say(f"{counts}, {found.audit_entries} entries of the audit log checked.")
    return 1 if found.problems else 0


@app.command
def backup(
    target: Annotated[
        Path, Parameter(help="Folder for the copy; one of an earlier backup is brought up to date.")
    ],
    /,
    *,
    place: Place,
    json: Json = False,
) -> None:
    """Copy the hub while it serves. With PostgreSQL the objects alone: dump the database first, with
    pg_dump."""
    from piste.hub.operations.backup import back_up

    made = _with_services(place, "backup", lambda services: back_up(services, target))
    if made.database is None:
        show.warn("The database is not in this copy. A pg_dump made before it belongs to it.")
    _show_backup(made, json=json)


@app.command
def restore(
    source: Annotated[Path, Parameter(help="Folder that `piste hub backup` wrote.")],
    /,
    *,
    place: Place,
    json: Json = False,
) -> None:
    """Put a backup into an empty data folder. With PostgreSQL restore the dump first, with pg_restore."""
    import asyncio

    from piste.hub.operations.backup import restore as run

    made = asyncio.run(run(place.settings(), source))
    _show_backup(made, json=json)


@app.command
def migrate(
    *,
    place: Place,
    dry_run: Annotated[bool, Parameter(negative="", help="Only say what would be run.")] = False,
    json: Json = False,
) -> None:
    """Bring the database's tables up to date; `serve` does so by itself. Older processes may go on
    serving."""
    from piste.hub.operations.run import run_migrations

    names = run_migrations(place.settings(), dry_run=dry_run)
    if json:
        show.data({"dry_run": dry_run, "migrations": names})
    else:
        for name in names:
            show.line(name)


keys = App(name="keys", help="Signing keys of organizations.")
app.command(keys)


@keys.command
def rotate(
    *,
    place: Place,
    org: Annotated[str | None, Parameter(help="The organization whose signing key it is.")] = None,
    retire: Annotated[
        str | None, Parameter(help="Retire this key, once every host trusts the new one; adds none.")
    ] = None,
    tokens: Annotated[
        bool, Parameter(negative="", help="The key of closure tokens instead, which all hub processes share.")
    ] = False,
    at_once: Annotated[
        bool,
        Parameter(negative="", help="With --tokens: also end every closure token that was made so far."),
    ] = False,
    json: Json = False,
) -> None:
    """Add a signing key and sign everything with it too; later, with --retire, take the old one away.

    With --tokens: make closure tokens with a new key. Those that are out hold until their hour ends; with
    --at-once, where the old key may be known to others, they end within a second.
    """
    if tokens == (org is not None) or (tokens and retire) or (at_once and not tokens):
        raise UsageError("usage", "Give either --org, with or without --retire, or --tokens.")
    if org is None:
        _rotate_token_key(place, at_once=at_once, json=json)
        return
    from piste.hub.operations import rotate as operation

    found = _with_services(
        place,
        "keys rotate",
        lambda services: (
            operation.rotate(services, org) if retire is None else operation.retire(services, org, retire)
        ),
    )
    if json:
        show.data(found)
        return
    for key in found.public_keys:
        show.line(key)
    show.say(f"Signed {found.paths_signed} paths and {found.statements_signed} statements.")


def _rotate_token_key(place: Place, *, at_once: bool, json: bool) -> None:
    from piste.hub.operations.rotate import rotate_token_key

    found = _with_services(
        place, "keys rotate --tokens", lambda services: rotate_token_key(services, at_once=at_once)
    )
    if json:
        show.data(found)
        return
    ends = "now" if at_once else "with the hour of the last tokens that they made"
    show.line(f"Closure tokens are made with key {found.key}; {found.ended} older ones end {ends}.")


def _show_backup(made: "Backup", *, json: bool) -> None:
    if json:
        show.data(made)
    else:
        show.line(f"{made.objects} objects, {show.size(made.bytes)}.")
