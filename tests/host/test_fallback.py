"""What this version does not understand is left to Nix, and that is said; what is wrong is an error."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.attacks.liar import Liar, running_liar
from tests.hub.process import Hub
from tests.running.closures import ATTRIBUTE, Member, make_closure, publish
from tests.running.command import Finished, Person, check
from tests.running.tenants import Tenant, make_tenant

# Answers as a daemon of another age would: with protocol 9.1.
_NEW_DAEMON = r"""#!/bin/sh
if [ "$1" = --stdio ]; then printf 'oixd\0\0\0\0\001\011\0\0\0\0\0\0'; cat > /dev/null; exit 0; fi
exec "$REAL_NIX/nix-daemon" "$@"
"""
SAID = "Nix fetches the closure by itself"


@pytest.fixture(scope="module")
def closure() -> list[Member]:
    return make_closure(5, paths=6, size=30_000)


@pytest.fixture(scope="module")
def acme(tmp_path_factory: pytest.TempPathFactory, closure: list[Member]) -> Iterator[Tenant]:
    hub = Hub(tmp_path_factory.mktemp("hub"))
    try:
        tenant = make_tenant(hub.start(), "acme", "web")
        with tenant.client() as client:
            publish(client, "acme", "web", "1.0.0", closure)
        yield tenant
    finally:
        hub.close()


@pytest.fixture
def liar(acme: Tenant) -> Iterator[Liar]:
    with running_liar(acme.hub.url) as made:
        yield made


def _host(acme: Tenant, folder: Path, hub: str | None = None) -> Person:
    person = Person(folder, hub=hub or acme.hub.url, token=acme.token)
    person.extra = {"PISTE_TRUSTED_PUBLIC_KEYS": str(acme.key)}
    return person


def _fetch(person: Person) -> Finished:
    return person.piste("fetch", f"acme/web/1#{ATTRIBUTE}", str(person.folder / "result"), "--json")


def _check(person: Person, done: Finished, closure: list[Member]) -> None:
    assert done.code == 0, done.stderr
    assert SAID in done.stderr
    assert done.json["paths_fetched"] == len(closure)
    assert (person.folder / "result").is_symlink()
    check(person.run("nix-store", "--gc"))
    held = check(person.run("nix-store", "-qR", str(closure[-1].path))).split()
    assert len(held) == len(closure)


def test_a_daemon_of_an_unknown_protocol(acme: Tenant, closure: list[Member], tmp_path: Path) -> None:
    person = _host(acme, tmp_path)
    real = next(
        Path(folder) for folder in os.environ["PATH"].split(":") if (Path(folder) / "nix-daemon").exists()
    )
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/nix-daemon").write_text(_NEW_DAEMON)
    (tmp_path / "bin/nix-daemon").chmod(0o755)
    person.nix = tmp_path / "bin"
    person.extra = {**person.extra, "REAL_NIX": str(real)}
    _check(person, _fetch(person), closure)


def _other_compression(path: str, body: bytes) -> bytes:
    if "/plan/" not in path:
        return body
    answer = json.loads(body)
    answer["sources"]["compressions"] = {"2": "novel"}
    return json.dumps(answer).encode()


def _no_plan(path: str, body: bytes) -> bytes:
    return b"[]" if "/plan/" in path else body


def _no_answer(path: str, body: bytes) -> bytes:
    return b"[]" if "/plan/" in path or path.endswith("/sources") else body


@pytest.mark.parametrize("lie", [_other_compression, _no_answer])
def test_an_answer_that_can_not_be_understood(
    acme: Tenant,
    liar: Liar,
    closure: list[Member],
    tmp_path: Path,
    lie: Callable[[str, bytes], bytes],
) -> None:
    person = _host(acme, tmp_path, liar.url)
    liar.lie = lie
    done = _fetch(person)
    _check(person, done, closure)
    # The token was for this one command.
    assert not list(tmp_path.rglob("netrc"))


def test_a_hub_without_plans_is_asked_one_thing_after_the_other(
    acme: Tenant, liar: Liar, closure: list[Member], tmp_path: Path
) -> None:
    person = _host(acme, tmp_path, liar.url)
    liar.lie = _no_plan
    done = _fetch(person)
    assert done.code == 0, done.stderr
    assert SAID not in done.stderr
    assert done.json["paths_fetched"] == len(closure)


def test_a_key_that_is_not_trusted_is_refused_by_nix_as_well(
    acme: Tenant, liar: Liar, tmp_path: Path
) -> None:
    person = _host(acme, tmp_path, liar.url)

    def lie(path: str, body: bytes) -> bytes:
        if path.endswith(".narinfo"):
            return b"\n".join(line for line in body.split(b"\n") if not line.startswith(b"Sig:"))
        return _no_answer(path, body)

    liar.lie = lie
    done = _fetch(person)
    assert done.code == 1
    assert json.loads(done.stderr.strip().splitlines()[-1])["error"]["ref"] == "command-failed"
    assert not (tmp_path / "result").is_symlink()
