"""`piste hub …`: run a hub and look after it. What these commands do is in hub/; here they are named and
shown."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

from cyclopts import App, Parameter

from piste.cli import show
from piste.cli.arguments import parse_duration
from piste.cli.options import Json

if TYPE_CHECKING:
    from piste.hub.operations.backup import Backup
    from piste.hub.services import Services

T = TypeVar("T")

app = App(name="hub", help="Run a hub and look after it.")

Data = Annotated[
    Path, Parameter(name="--data", env_var="PISTE_DATA", help="Folder for everything that the hub keeps.")
]
DatabaseUrl = Annotated[
    str | None,
    Parameter(
        name="--database",
        env_var="PISTE_DATABASE",
        help="`sqlite` (in the data folder), or postgresql://…; use the variable where it holds a password.",
    ),
]
ObjectsUrl = Annotated[
    str | None,
    Parameter(name="--objects", env_var="PISTE_OBJECTS", help="Folder for objects; else in the data folder."),
]


@app.command
def serve(
    *,
    data: Data,
    listen: Annotated[str, Parameter(help="HOST:PORT; port 0 takes a free one.")] = "127.0.0.1:8080",
    public_url: Annotated[str | None, Parameter(help="Address that clients reach the hub at.")] = None,
    database: DatabaseUrl = None,
    objects: ObjectsUrl = None,
    tls_cert: Annotated[Path | None, Parameter(help="Certificate chain, PEM.")] = None,
    tls_key: Annotated[Path | None, Parameter(help="Its private key, PEM.")] = None,
    trusted_proxy: Annotated[
        tuple[str, ...], Parameter(help="Address or network of a proxy whose X-Forwarded-For is believed.")
    ] = (),
) -> None:
    """Run the hub until SIGTERM. Makes what is missing at the first start."""
    from piste.hub.serve import serve as run
    from piste.hub.settings import make_settings

    run(
        make_settings(
            data,
            listen=listen,
            public_url=public_url,
            database=database,
            objects=objects,
            tls_cert=tls_cert,
            tls_key=tls_key,
            trusted_proxies=trusted_proxy,
        )
    )


@app.command
def admin_token(
    *, data: Data, database: DatabaseUrl = None, objects: ObjectsUrl = None, json: Json = False
) -> None:
    """Print a user token with every right. It expires in an hour; nothing else makes a first one."""
    from piste.hub.operations.bootstrap import make_admin_token

    token = _with_services(data, database, objects, make_admin_token)
    if json:
        show.data({"token": token, "kind": "user", "expires_in": 3600})
    else:
        show.line(token)


@app.command
def public_key(
    *,
    data: Data,
    org: Annotated[str | None, Parameter(help="Organization; without it the keys of all.")] = None,
    database: DatabaseUrl = None,
    objects: ObjectsUrl = None,
    json: Json = False,
) -> None:
    """Print the keys that sign, NAME:BASE64, one a line, for `trusted-public-keys`."""
    from piste.hub.operations.bootstrap import public_keys

    keys = _with_services(data, database, objects, lambda services: public_keys(services, org))
    if json:
        show.data(keys)
    else:
        for key in keys:
            show.line(key)


def _with_services(
    data: Path, database: str | None, objects: str | None, work: "Callable[[Services], Awaitable[T]]"
) -> T:
    """Run one operation on the hub's data, beside any process that serves it."""
    from piste.hub.operations.run import run_operation
    from piste.hub.settings import make_settings

    return run_operation(make_settings(data, database=database, objects=objects), work)


@app.command
def gc(
    *,
    data: Data,
    grace: Annotated[str, Parameter(help="How long everything stays at least: 24h, 7d.")] = "24h",
    dry_run: Annotated[bool, Parameter(negative="", help="Only say what would go.")] = False,
    database: DatabaseUrl = None,
    objects: ObjectsUrl = None,
    json: Json = False,
) -> None:
    """Remove NARs, manifests, sources and logs that nothing refers to. The hub may go on serving."""
    from piste.hub.operations.collect import collect

    seconds = parse_duration(grace)
    found = _with_services(
        data,
        database,
        objects,
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
    data: Data,
    contents: Annotated[
        bool, Parameter(negative="", help="Also read every NAR and compare its hash.")
    ] = False,
    database: DatabaseUrl = None,
    objects: ObjectsUrl = None,
    json: Json = False,
) -> int:
    """Check that everything that the database speaks of is there. Changes nothing; 1 if something is
    missing."""
    from piste.hub.operations.check import check as run

    found = _with_services(data, database, objects, lambda services: run(services, contents=contents))
    if json:
        show.data(found)
    else:
        for problem in found.problems:
            show.line(f"{problem.name}: {problem.problem}")
        show.say(f"{found.nars} NARs, {found.manifests} manifests, {found.sources} releases checked.")
    return 1 if found.problems else 0


@app.command
def backup(
    target: Annotated[
        Path, Parameter(help="Folder for the copy; one of an earlier backup is brought up to date.")
    ],
    /,
    *,
    data: Data,
    database: DatabaseUrl = None,
    objects: ObjectsUrl = None,
    json: Json = False,
) -> None:
    """Copy the hub while it serves. With PostgreSQL the objects alone: dump the database first, with
    pg_dump."""
    from piste.hub.operations.backup import back_up

    made = _with_services(data, database, objects, lambda services: back_up(services, target))
    if made.database is None:
        show.warn("The database is not in this copy. A pg_dump made before it belongs to it.")
    _show_backup(made, json=json)


@app.command
def restore(
    source: Annotated[Path, Parameter(help="Folder that `piste hub backup` wrote.")],
    /,
    *,
    data: Data,
    database: DatabaseUrl = None,
    objects: ObjectsUrl = None,
    json: Json = False,
) -> None:
    """Put a backup into an empty data folder. With PostgreSQL restore the dump first, with pg_restore."""
    import asyncio

    from piste.hub.operations.backup import restore as run
    from piste.hub.settings import make_settings

    made = asyncio.run(run(make_settings(data, database=database, objects=objects), source))
    _show_backup(made, json=json)


@app.command
def migrate(
    *,
    data: Data,
    dry_run: Annotated[bool, Parameter(negative="", help="Only say what would be run.")] = False,
    database: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """Bring the database's tables up to date; `serve` does so by itself. Older processes may go on
    serving."""
    from piste.hub.operations.run import run_migrations
    from piste.hub.settings import make_settings

    names = run_migrations(make_settings(data, database=database), dry_run=dry_run)
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
    data: Data,
    org: Annotated[str, Parameter(help="The organization.")],
    retire: Annotated[
        str | None, Parameter(help="Retire this key, once every host trusts the new one; adds none.")
    ] = None,
    database: DatabaseUrl = None,
    objects: ObjectsUrl = None,
    json: Json = False,
) -> None:
    """Add a signing key and sign everything with it too; later, with --retire, take the old one away."""
    from piste.hub.operations import rotate as operation

    found = _with_services(
        data,
        database,
        objects,
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


def _show_backup(made: "Backup", *, json: bool) -> None:
    if json:
        show.data(made)
    else:
        show.line(f"{made.objects} objects, {show.size(made.bytes)}.")
