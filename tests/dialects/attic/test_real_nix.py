"""What came through Attic is read by stock Nix, with the hub as a substituter and the token in a netrc."""

import os
from pathlib import Path

from piste.nix.signature import PublicKey
from piste.nix.store_path import StorePath
from piste.nixcmd.daemon import Daemon
from piste.nixcmd.store import Store
from tests.dialects.attic.exchanges import Client, cache_of
from tests.hub.publishing import Acme
from tests.running.closures import Member
from tests.running.command import Person
from tests.running.nix import build, configured, content, has, substitute


def members(person: Person, path: str) -> list[Member]:
    """A closure of a person's store, as a client reads it there."""
    with Daemon(Store.parse(person.store)) as daemon:
        infos = daemon.closure([StorePath.parse(path)]).values()
        return [
            Member(info.path, b"".join(daemon.nar_from_path(info.path)), info.references) for info in infos
        ]


def test_a_closure_that_magic_nix_cache_pushed_is_substituted(acme: Acme, tmp_path: Path) -> None:
    ci = Person(tmp_path / "ci")
    below = f'below = run "below" "echo {os.urandom(8).hex()} > $out";'
    path = build(ci, below, 'run "above" "cat ${below} > $out; echo ${below} >> $out"')
    name = cache_of(acme.hub, acme.member, f"{acme.organization}/web")
    client = Client(acme.hub, name, acme.member)
    assert len(client.push(members(ci, path))) == 2
    config = client.config().json()
    key = PublicKey.parse(config["public_key"])
    host = configured(Person(tmp_path / "host"), acme.hub.url, acme.member, [key])
    done = substitute(host, config["substituter_endpoint"], path)
    assert done.code == 0, done.stderr
    assert has(host, path)
    assert content(host, path) == content(ci, path)
