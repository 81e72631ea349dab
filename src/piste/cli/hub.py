"""`piste hub …`: run a hub and look after it. What these commands do is in hub/; here they are named and
shown."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

from cyclopts import App, Parameter

from piste.cli import show
from piste.cli.options import Json

if TYPE_CHECKING:
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
