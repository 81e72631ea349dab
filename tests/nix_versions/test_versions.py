"""The Nix of three Debian releases, unmodified: substitutes what piste published, and pushes as well."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from piste.host.place import system_type
from piste.wire.resolution import Resolution
from tests.nix_versions.conftest import Release
from tests.running.command import Finished, Person, check
from tests.running.nix import (
    build,
    closure,
    configured,
    content,
    copy_from,
    copy_to,
    has,
    nix_of,
    substitute,
)

VERSIONS = ["forky", "trixie", "bookworm"]
ATTRIBUTE = f"packages.{system_type()}.app"
Get = Callable[..., Finished]


def _person(folder: Path, version: str) -> Person:
    found = nix_of(version)
    if found is None:
        pytest.skip(f"the Nix of Debian {version} is not there: `make setup-dev` brings it")
    return Person(folder, nix=found)


def _resolution(release: Release) -> Resolution:
    tenant = release.tenant
    with tenant.client() as client:
        return client.resolve(tenant.organization, tenant.project, "1", ATTRIBUTE, token=True)


@pytest.mark.parametrize("get", [copy_from, substitute])
@pytest.mark.parametrize("credential", ["user", "closure"])
@pytest.mark.parametrize("address", ["project", "root"])
@pytest.mark.parametrize("version", VERSIONS)
def test_it_substitutes_a_closure_with_a_netrc_and_checks_the_organizations_signatures(
    release: Release, tmp_path: Path, version: str, get: Get, credential: str, address: str
) -> None:
    tenant = release.tenant
    token = tenant.token if credential == "user" else str(_resolution(release).token)
    host = configured(_person(tmp_path, version), tenant.hub.url, token, [tenant.key])
    done = get(host, tenant.cache_url if address == "project" else tenant.hub.url, release.output)
    assert done.code == 0, done.stderr
    paths = closure(host, release.output)
    assert [path[44:] for path in paths] == ["library", "tool", "app"]
    assert content(host, release.output).split() == [paths[1], paths[0]]
    check(host.run("nix-store", "--verify-path", *paths))
    info = check(host.run("nix", "path-info", "--sigs", release.output))
    assert tenant.key.name in info


@pytest.mark.parametrize("get", [copy_from, substitute])
@pytest.mark.parametrize("version", VERSIONS)
def test_it_refuses_the_closure_when_it_does_not_trust_the_key(
    release: Release, tmp_path: Path, version: str, get: Get
) -> None:
    tenant = release.tenant
    host = configured(_person(tmp_path, version), tenant.hub.url, tenant.token, [])
    assert get(host, tenant.cache_url, release.output).code != 0
    assert not has(host, release.output)


@pytest.mark.parametrize("version", VERSIONS)
def test_it_gets_nothing_without_a_credential(release: Release, tmp_path: Path, version: str) -> None:
    tenant = release.tenant
    host = configured(_person(tmp_path, version), tenant.hub.url, None, [tenant.key])
    assert copy_from(host, tenant.cache_url, release.output).code != 0
    assert not has(host, release.output)


@pytest.mark.parametrize("compression", ["", "zstd", "xz", "bzip2", "gzip", "none"])
@pytest.mark.parametrize("version", VERSIONS)
def test_it_pushes_a_closure_that_is_then_readable_by_all(
    release: Release, tmp_path: Path, version: str, compression: str
) -> None:
    tenant = release.tenant
    name = f"{version}-{compression or 'default'}"
    person = _person(tmp_path / "publisher", version)
    definitions = (
        f"""below = run "below" "echo {name} > $out"; above = run "above" "echo ${{below}} > $out";"""
    )
    pushed = build(person, definitions, "above")
    publisher = configured(person, tenant.hub.url, tenant.token, [])
    url = tenant.cache_url + (f"?compression={compression}" if compression else "")
    done = copy_to(publisher, url, pushed)
    assert done.code == 0, done.stderr
    below = closure(person, pushed)[0]
    for reader in VERSIONS if compression == "" else [version]:
        host = configured(_person(tmp_path / reader, reader), tenant.hub.url, tenant.token, [tenant.key])
        got = copy_from(host, tenant.cache_url, pushed)
        assert got.code == 0, got.stderr
        assert (content(host, below), content(host, pushed)) == (f"{name}\n", f"{below}\n")
    again = copy_to(publisher, url, pushed)
    assert again.code == 0, again.stderr
    # Who pushed remembers for a month under which name, and in which compression.
    check(publisher.run("nix-store", "--delete", pushed))
    remembering = {"NIX_CONFIG": publisher.extra["NIX_CONFIG"].replace("narinfo-cache-positive-ttl = 0", "")}
    back = copy_from(replace(publisher, extra=remembering), url, "--no-check-sigs", pushed)
    assert back.code == 0, back.stderr
    assert content(publisher, pushed) == f"{below}\n"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_push_of_somebody_who_may_not_is_refused(release: Release, tmp_path: Path, version: str) -> None:
    tenant = release.tenant
    person = _person(tmp_path, version)
    pushed = build(person, f"""it = run "it" "echo {version} > $out";""", "it")
    for token in (None, str(_resolution(release).token), tenant.resolve_only("1", ATTRIBUTE)):
        publisher = configured(person, tenant.hub.url, token, [])
        assert copy_to(publisher, tenant.cache_url, pushed).code != 0
    address = f"{tenant.cache_path}/{pushed[11:43]}.narinfo"
    assert tenant.hub.request("GET", address, token=tenant.token).status == 404


@pytest.mark.parametrize("version", VERSIONS)
def test_piste_fetches_with_it_too(release: Release, tmp_path: Path, version: str) -> None:
    tenant = release.tenant
    host = _person(tmp_path, version)
    host.hub, host.token = tenant.hub.url, tenant.resolve_only("1", ATTRIBUTE)
    host.succeed("login", "--trusted-key", str(tenant.key))
    host.succeed("fetch", f"{tenant.name}/1#{ATTRIBUTE}", str(tmp_path / "link"))
    check(host.run("nix-store", "--gc"))
    assert len(closure(host, release.output)) == 3
    check(host.run("nix-store", "--verify-path", *closure(host, release.output)))
    assert not has(host, release.notes)
    # The link is what keeps it.
    (tmp_path / "link").unlink()
    check(host.run("nix-store", "--gc"))
    assert not has(host, release.output)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_fetch_that_was_killed_goes_on_with_it(release: Release, tmp_path: Path, version: str) -> None:
    tenant = release.tenant
    host = _person(tmp_path, version)
    host.hub, host.token = tenant.hub.url, tenant.resolve_only("1", ATTRIBUTE)
    host.succeed("login", "--trusted-key", str(tenant.key))
    argv = ["fetch", f"{tenant.name}/1#{ATTRIBUTE}", str(tmp_path / "link")]
    host.run("timeout", "--signal=KILL", "0.4", "piste", *argv)
    host.succeed(*argv)
    check(host.run("nix-store", "--verify-path", *closure(host, release.output)))
