"""The steps of docs/migrating.md that need no foreign client, with real Nix: what an older cache holds moves
to a hub, and hosts go on trusting what they trusted.
"""

import os
from pathlib import Path

import pytest

from piste.nix.signature import PublicKey, SecretKey
from tests.running.command import Person, check
from tests.running.nix import build, configured, copy_to, has, substitute
from tests.running.tenants import Tenant


@pytest.fixture
def old_key(publisher: Person, tmp_path: Path) -> Path:
    """The secret key of the cache before, as `nix key generate-secret` writes it."""
    argv = ["nix", "--extra-experimental-features", "nix-command", "key", "generate-secret"]
    text = check(publisher.run(*argv, "--key-name", "acme.cachix.org-1"))
    file = tmp_path / "old.key"
    file.touch(mode=0o600)
    file.write_text(text + "\n")
    return file


def public(key: Path) -> PublicKey:
    return SecretKey.parse(key.read_text()).public


def pushing(publisher: Person, tenant: Tenant) -> Person:
    """With a netrc whose password is the token, and nothing else."""
    return configured(publisher, tenant.hub.url, tenant.token, [])


def reads(folder: Path, tenant: Tenant, key: PublicKey, path: str) -> bool:
    """Whether a new machine that trusts one key gets the path from the hub."""
    host = configured(Person(folder), tenant.hub.url, tenant.token, [key])
    return substitute(host, tenant.cache_url, path).code == 0 and has(host, path)


def test_what_an_older_cache_holds_is_copied_with_its_signatures(
    publisher: Person, tenant: Tenant, old_key: Path, tmp_path: Path
) -> None:
    below = f'below = run "below" "echo {os.urandom(8).hex()} > $out";'
    path = build(publisher, below, 'run "above" "echo ${below} > $out"')
    old = f"file://{tmp_path}/old"
    check(copy_to(publisher, f"{old}?secret-key={old_key}", path))
    empty = configured(Person(tmp_path / "ci"), tenant.hub.url, tenant.token, [])
    check(empty.run("nix", "copy", "--from", old, "--to", tenant.cache_url, path))
    known = publisher.succeed("cache", "info", path, "--name", tenant.name, "--json").json
    signers = {each.partition(":")[0] for each in known["signatures"]}
    assert signers == {"acme.cachix.org-1", tenant.key.name}
    # Hosts that were not told of the new key yet, and those that trust no other.
    assert reads(tmp_path / "before", tenant, public(old_key), path)
    assert reads(tmp_path / "after", tenant, tenant.key, path)


def test_a_signing_key_of_ones_own_goes_on_signing(
    publisher: Person, tenant: Tenant, old_key: Path, tmp_path: Path
) -> None:
    admin = Person(publisher.folder, tenant.hub.url, tenant.hub.admin)
    admin.succeed("org", "keys", "add", tenant.organization, str(public(old_key)))
    path = build(publisher, "", f'run "own" "echo {os.urandom(8).hex()} > $out"')
    mine = Person(publisher.folder, tenant.hub.url, tenant.token)
    mine.succeed("cache", "push", path, "--name", tenant.name, "--signing-key-file", str(old_key))
    assert reads(tmp_path / "before", tenant, public(old_key), path)


def test_a_hook_of_stock_nix_pushes_what_is_built(publisher: Person, tenant: Tenant, tmp_path: Path) -> None:
    hook = tmp_path / "hook"
    hook.write_text(
        f'#!/bin/sh\nset -f\nexec nix copy --from "$NIX_REMOTE" --to {tenant.cache_url} $OUT_PATHS\n'
    )
    hook.chmod(0o755)
    person = pushing(publisher, tenant)
    settings = {"NIX_CONFIG": person.extra["NIX_CONFIG"] + f"\npost-build-hook = {hook}"}
    text = f'derivation {{ name = "hooked"; system = builtins.currentSystem; builder = "/bin/sh"; \
args = [ "-ec" "echo {os.urandom(8).hex()} > $out" ]; }}'
    argv = ["nix-build", "--no-out-link", "--expr", text]
    path = check(person.run(*argv, extra=settings), argv).splitlines()[-1]
    done = publisher.succeed("cache", "push", path, "--name", tenant.name, "--json").json
    assert (done["paths_uploaded"], done["paths_present"]) == (0, 1)


def test_what_stock_nix_pushed_is_not_pushed_again(publisher: Person, tenant: Tenant) -> None:
    path = build(publisher, "", f'run "both" "echo {os.urandom(8).hex()} > $out"')
    check(copy_to(pushing(publisher, tenant), f"{tenant.cache_url}?compression=zstd", path))
    done = publisher.succeed("cache", "push", path, "--name", tenant.name, "--json").json
    assert (done["paths_uploaded"], done["paths_present"]) == (0, 1)
