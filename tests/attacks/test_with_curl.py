"""What the tokens of a host can not do, as anybody tries it first: with curl."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.running.closures import ATTRIBUTE, Member, member, publish
from tests.running.tenants import Tenant, client_of

NOTES = "packages.x86_64-linux.notes"
LOG = "log/00000000000000000000000000000000-web.drv"


@dataclass(frozen=True)
class Curl:
    """curl with a token, in each of the ways in which it sends one."""

    folder: Path
    url: str
    token: str

    def status(self, path: str, *more: str) -> set[str]:
        """The statuses of the answers; one, where all ways are answered alike."""
        netrc = self.folder / "netrc"
        netrc.touch(mode=0o600)
        netrc.write_text(f"machine {urlsplit(self.url).hostname} login any password {self.token}\n")
        config = self.folder / "config"
        config.touch(mode=0o600)
        ways = [
            f'header = "Authorization: Bearer {self.token}"',
            f'header = "Authorization: bearer {self.token}"',
            f'user = "any:{self.token}"',
            f'netrc-file = "{netrc}"',
        ]
        found = set()
        for way in ways:
            config.write_text(way + "\n")
            argv = ["curl", "-K", str(config), "-sS", "--path-as-is", "-o", "/dev/null", "-w", "%{http_code}"]
            done = subprocess.run(
                [*argv, *more, self.url + path], capture_output=True, text=True, check=True, timeout=60
            )
            found.add(done.stdout)
        return found


@dataclass(frozen=True)
class Released:
    """Yesterday's and today's version of a system, and notes beside each."""

    tenant: Tenant
    yesterday: Member
    today: Member
    notes: Member
    release: str


@pytest.fixture(scope="module")
def released(acme: Tenant) -> Released:
    if shutil.which("curl") is None:
        pytest.skip("no curl here")
    project = acme.another_project("curled")
    old, new, notes = (member(name, "curled", name.encode()) for name in ("yesterday", "today", "notes"))
    with project.client() as client:
        for version, top in (("1.0.0", old), ("1.1.0", new), ("2.0.0", new)):
            outputs = {ATTRIBUTE: top, NOTES: notes}
            publish(client, project.organization, project.project, version, [top, notes], outputs=outputs)
    put = project.hub.request("PUT", f"{project.cache_path}/{LOG}", token=project.token, body=b"secret.c\n")
    assert put.status < 300
    shown = project.hub.request("GET", f"{project.api}/releases/1.1", token=project.token).json()
    return Released(project, old, new, notes, shown["release"]["id"])


def of_cache(released: Released, each: Member) -> list[str]:
    tails = [f"{each.path.hash_part}.narinfo", f"{each.path.hash_part}.ls"]
    tails.append(f"nar/{each.nar_hash.base32}.nar.zst")
    return [f"{place}/{tail}" for place in (released.tenant.cache_path, "") for tail in tails]


def of_project(released: Released) -> list[str]:
    """Source, listings, other outputs, versions outside of the requirement, logs."""
    tenant = released.tenant
    return [
        f"{tenant.api}/releases/1/source",
        f"/f/{tenant.name}/1",
        f"/f/{tenant.name}/1.tar.gz",
        f"/f/pinned/{tenant.name}/1.1.0/{released.release}/source.tar.gz",
        tenant.api,
        f"{tenant.api}/releases",
        f"{tenant.api}/versions/1",
        f"/f/{tenant.name}/releases",
        f"{tenant.api}/resolve/1/{NOTES}",
        f"{tenant.api}/resolve/2/{ATTRIBUTE}",
        f"{tenant.api}/resolve/=2.0.0/{ATTRIBUTE}",
        f"{tenant.api}/resolve/*/{ATTRIBUTE}",
        f"{tenant.cache_path}/{LOG}",
        f"{tenant.cache_path}/../{tenant.project}/{LOG}",
        f"/api/v1/organizations/{tenant.organization}",
    ]


REFUSED = ({"403"}, {"404"}, {"401"})


def test_with_a_resolve_only_token_nothing_is_reached_but_its_output(
    released: Released, tmp_path: Path
) -> None:
    tenant = released.tenant
    curl = Curl(tmp_path, tenant.hub.url, tenant.resolve_only("1", ATTRIBUTE))
    assert curl.status(f"{tenant.api}/resolve/1/{ATTRIBUTE}") == {"200"}
    closed = of_project(released)
    closed += [place for each in (released.today, released.yesterday) for place in of_cache(released, each)]
    for place in closed:
        assert curl.status(place) in REFUSED, place
        assert curl.status(place, "--head") in REFUSED, place


def test_with_the_closure_token_of_today_neither_logs_nor_siblings_nor_yesterday_are_reached(
    released: Released, tmp_path: Path
) -> None:
    tenant = released.tenant
    with client_of(tenant.hub, tenant.resolve_only("1", ATTRIBUTE)) as client:
        found = client.resolve(tenant.organization, tenant.project, "1", ATTRIBUTE, token=True)
    curl = Curl(tmp_path, tenant.hub.url, str(found.token))
    for place in of_cache(released, released.today):
        assert curl.status(place) == {"200"}, place
    closed = [*of_project(released), f"{tenant.api}/resolve/1/{ATTRIBUTE}"]
    closed += [place for each in (released.notes, released.yesterday) for place in of_cache(released, each)]
    for place in closed:
        assert curl.status(place) in REFUSED, place
        assert curl.status(place, "--head") in REFUSED, place
