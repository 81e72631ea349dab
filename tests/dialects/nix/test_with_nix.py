"""Unmodified Nix beyond paths alone: content-addressed builds, logs, debug information, a post-build hook."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from piste.host.place import system_type
from tests.dialects.nix.conftest import VERSIONS, with_nix
from tests.hub.process import Hub, wait_for
from tests.running.command import Finished, Person, check
from tests.running.fixtures import hub
from tests.running.nix import RUN, configured, content, copy_from, copy_to, has
from tests.running.tenants import Tenant, make_tenant

__all__ = ["hub"]


@pytest.fixture(scope="module")
def tenant(hub: Hub) -> Iterator[Tenant]:
    yield make_tenant(hub, "acme", "web")


def machine(tenant: Tenant, folder: Path, version: str, *more: str) -> Person:
    """With the organization's key and a netrc, and with further settings."""
    made = configured(with_nix(folder, version), tenant.hub.url, tenant.token, [tenant.key])
    settings = "\n".join((made.extra["NIX_CONFIG"], *more))
    return Person(folder, nix=made.nix, extra={**made.extra, "NIX_CONFIG": settings})


CA = "extra-experimental-features = nix-command flakes ca-derivations"
ADDRESSED = """derivation {{ name = "addressed"; system = "{system}"; builder = "/bin/sh";
  args = [ "-ec" "echo {words} > $out" ]; __contentAddressed = true; outputHashMode = "recursive";
  outputHashAlgo = "sha256"; }}"""


def build(who: Person, expression: str, *options: str) -> Finished:
    return who.run("nix-build", "--no-out-link", "--expr", expression, *options)


@pytest.mark.parametrize("version", VERSIONS)
def test_an_output_of_a_content_addressed_build_is_found_by_its_trace(
    tenant: Tenant, tmp_path: Path, version: str
) -> None:
    expression = ADDRESSED.format(words=version, system=system_type())
    builder = machine(tenant, tmp_path / "builder", version, CA)
    file = tmp_path / "it.nix"
    file.write_text(expression)
    path = check(build(builder, expression))
    sent = builder.run(
        "nix", "copy", "--from", builder.store, "--to", tenant.cache_url, "--impure", "-f", str(file)
    )
    assert sent.code == 0, sent.stderr
    wait_for(lambda: any("/realisations/" in line["route"] for line in tenant.hub.log_lines("request")))
    # Another machine neither knows the path nor may build it: the signed trace tells which one it is.
    other = machine(tenant, tmp_path / "other", version, CA, f"substituters = {tenant.cache_url}")
    done = build(other, expression, "--max-jobs", "0")
    assert done.code == 0, done.stderr
    assert done.stdout.strip() == path
    assert content(other, path) == f"{version}\n"
    # `nix copy` registers nothing that no trusted key has signed.
    argv = ["nix", "copy", "--from", tenant.cache_url, "--impure", "-f", str(file)]
    copying = machine(tenant, tmp_path / "copying", version, CA)
    copied = copying.run(*argv, "--to", copying.store)
    assert copied.code == 0, copied.stderr
    wary = machine(tenant, tmp_path / "wary", version, CA)
    config = wary.extra["NIX_CONFIG"].replace(str(tenant.key), "")
    wary.extra = {**wary.extra, "NIX_CONFIG": config}
    refused = wary.run(*argv, "--to", wary.store)
    assert refused.code != 0
    assert "cannot register realisation" in refused.stderr


@pytest.mark.parametrize("version", VERSIONS)
def test_a_post_build_hook_pushes_what_was_built(tenant: Tenant, tmp_path: Path, version: str) -> None:
    hook = tmp_path / "hook.sh"
    hook.write_text(f"""#!/bin/sh
set -euf
# Nix 2.8 names the derivation alone.
exec nix copy --to '{tenant.cache_url}?compression=zstd' ${{OUT_PATHS:-$(nix-store -q --outputs $DRV_PATH)}}
""")
    hook.chmod(0o755)
    builder = machine(tenant, tmp_path / "builder", version, f"post-build-hook = {hook}")
    expression = f"""let {RUN} below = run "below" "echo {version} hook > $out";
      it = run "it" "echo ${{below}} > $out"; in it"""
    path = check(build(builder, expression))
    other = machine(tenant, tmp_path / "other", version, f"substituters = {tenant.cache_url}")
    done = other.run("nix-store", "--realise", path)
    assert done.code == 0, done.stderr
    assert has(other, path)


@pytest.mark.parametrize("version", ["forky", "trixie"])
def test_nix_log_finds_a_log_at_the_project_and_at_the_root(
    tenant: Tenant, tmp_path: Path, version: str
) -> None:
    builder = machine(tenant, tmp_path / "builder", version)
    expression = f"""let {RUN} in run "talkative" "echo it says {version}; echo {version} > $out" """
    path = check(build(builder, expression))
    drv = check(builder.run("nix-store", "-q", "--deriver", path))
    check(copy_to(builder, tenant.cache_url, path))
    check(builder.run("nix", "store", "copy-log", "--from", builder.store, "--to", tenant.cache_url, drv))
    other = machine(tenant, tmp_path / "other", version)
    for place in (tenant.cache_url, tenant.hub.url):
        assert check(other.run("nix", "log", "--store", place, drv)) == f"it says {version}"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_push_with_an_index_of_debug_information_is_taken(
    tenant: Tenant, tmp_path: Path, version: str
) -> None:
    build_id = f"{VERSIONS.index(version)}a".rjust(40, "0")
    builder = machine(tenant, tmp_path / "builder", version)
    folder = f"$out/lib/debug/.build-id/{build_id[:2]}"
    expression = f"""let {RUN} in run "thing-debug" ''
      mkdir -p {folder}; echo {version} > {folder}/{build_id[2:]}.debug
    ''"""
    path = check(build(builder, expression))
    parameters = "?compression=zstd&index-debug-info=true&write-nar-listing=true"
    check(copy_to(builder, tenant.cache_url + parameters, path))
    found = tenant.hub.request("GET", f"{tenant.cache_path}/debuginfo/{build_id}", token=tenant.token).json()
    assert found["member"] == f"lib/debug/.build-id/{build_id[:2]}/{build_id[2:]}.debug"
    place = f"{tenant.cache_path}/{path[11:43]}.ls"
    listing = json.loads(tenant.hub.request("GET", place, token=tenant.token).body)
    assert "lib" in listing["root"]["entries"]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_content_addressed_path_is_believed_without_a_trusted_key(
    tenant: Tenant, tmp_path: Path, version: str
) -> None:
    builder = machine(tenant, tmp_path / "builder", version)
    file = tmp_path / f"words-{version}"
    file.write_text(version)
    path = check(builder.run("nix-store", "--add", str(file)))
    check(copy_to(builder, tenant.cache_url, path))
    other = configured(with_nix(tmp_path / "other", version), tenant.hub.url, tenant.token, [])
    check(copy_from(other, tenant.cache_url, path))
    assert content(other, path) == version
