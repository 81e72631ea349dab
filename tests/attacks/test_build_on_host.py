"""Reading a host's token from a Nix build on that host: a user who may do nothing but build is on it."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.hub.process import Hub
from tests.running.closures import ATTRIBUTE, make_closure, publish
from tests.running.command import ROOT
from tests.running.nix import nix_of
from tests.running.tenants import make_tenant

WORLD = Path(__file__).parent / "world.sh"
TOKEN = re.compile(r"piste_(?:resolve|closure|user|device|session)_[A-Za-z0-9_-]{20,}")
DECOY = "piste_resolve_0000000000000000000000000000000000000000000decoy"
# The name that all tokens begin with is put together in the build, so that its own script is not found.
ATTACK = r"""
{ sandbox ? "false", url ? "" }:
let
  tool = if sandbox == "true" then "/bin/busybox " else "";
  look = ''
    t=${tool} word=piste_ some='[a-z]*_[A-Za-z0-9_-]{20,}'
    {
      echo "user: $($t id -u)"
      for _ in 1 2 3 4 5; do
        for file in /proc/[0-9]*/environ /proc/[0-9]*/cmdline; do
          $t grep -aEoh "$word$some" "$file"
        done
        $t sleep 0.2
      done
      for folder in /etc /root /home /run /var /tmp /dev/shm /nix /build; do
        $t find "$folder" -type f -size -300k -exec $t grep -aEoH "$word$some" {} +
      done
      for file in /root/token /etc/piste/login.json /root/.netrc /etc/nix/netrc /etc/nix/nix.conf; do
        if $t cat "$file" > /dev/null; then echo "read: $file"; else echo "closed: $file"; fi
      done
    } > $out 2> /dev/null
    exit 0
  '';
  shell = name: script: more: derivation ({
    inherit name; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" script ];
    PATH = "/usr/bin:/bin";
  } // more);
in {
  look = shell "look" look { };
  fetch = derivation {
    name = "fetch"; system = "builtin"; builder = "builtin:fetchurl"; inherit url;
    outputHashMode = "flat"; outputHashAlgo = "sha256";
    outputHash = "0000000000000000000000000000000000000000000000000000";
    unpack = false; executable = false;
  };
}
"""


def why_no_world() -> str | None:
    """Why there can be no such machine here; None if there can."""
    if os.geteuid() != 0:
        return "a machine with users that build needs root"
    if nix_of("forky") is None:
        return "the Nix of forky is not set up"
    absent = [tool for tool in ("unshare", "setpriv", "pivot_root") if shutil.which(tool) is None]
    if absent:
        return f"a machine with users that build needs {' '.join(absent)} of util-linux"
    trial = "d=$(mktemp -d); mount -t tmpfs none $d; mkdir $d/u $d/w $d/r; "
    trial += (
        "mount -t overlay none -o lowerdir=/,upperdir=$d/u,workdir=$d/w $d/r; mount -t proc none $d/r/proc"
    )
    tried = subprocess.run(
        ["unshare", "-mpf", "sh", "-ec", trial], capture_output=True, text=True, check=False
    )
    return None if tried.returncode == 0 else f"no machine of our own here: {tried.stderr.strip()}"


@pytest.fixture(scope="module")
def handed(tmp_path_factory: pytest.TempPathFactory, hub: Hub) -> Path:
    """What the machine is given: a hub, a token for one output of a private project, somewhere to attack."""
    if reason := why_no_world():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("handed")
    tenant = make_tenant(hub, "hosted", "web")
    closure = make_closure(7, paths=3, size=200_000)
    with tenant.client() as client:
        publish(client, tenant.organization, tenant.project, "1.0.0", closure)
    token = tenant.resolve_only("1", ATTRIBUTE)
    narinfo = f"{tenant.cache_url}/{closure[-1].path.hash_part}.narinfo"
    (folder / "token").touch(mode=0o600)
    for name, text in {
        "token": token,
        "hub": hub.url,
        "key": str(tenant.key),
        "device": hub.make_token(tenant.organization, kind="device"),
        "reference": f"{tenant.name}/1#{ATTRIBUTE}",
        "url": narinfo,
        "attack.nix": ATTACK,
    }.items():
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize("sandbox", ["true", "false"])
def test_reading_a_hosts_token_from_a_nix_build_on_that_host(handed: Path, sandbox: str) -> None:
    nix = ROOT / ".cache/nix/forky"
    done = subprocess.run(
        ["unshare", "-mpf", "--kill-child", "sh", str(WORLD), str(handed), sandbox, str(ROOT), str(nix)],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    said = done.stdout
    assert "== done" in said, done
    before, _, after = said.partition("== the build")
    build, _, fetches = after.partition("== what Nix itself fetches")
    # Root's own look at it: the folder is root's alone, and so is each file.
    assert re.findall(r"^(\S+) \d+ (\d+) (\d+) .*/etc/piste$", before, re.M) == [("drwx------", "0", "0")]
    files = re.findall(r"^(\S+) \d+ (\d+) (\d+) .* (/\S+)$", before, re.M)
    assert [file for file in files if file[3] != "/etc/piste"] == [
        ("-rw-------", "0", "0", "/etc/piste/login.json"),
        ("-rw-------", "0", "0", "/root/token"),
    ]
    assert "fetched: /nix/store/" in before, said
    # The build ran as somebody who builds, looked, and would have found what is not protected.
    assert re.search(r"^user: (1000|3000[12])$", build, re.M), build
    assert (DECOY in build) == (sandbox == "false"), build
    assert {found for found in TOKEN.findall(build) if found != DECOY} == set()
    for file in ("/root/token", "/etc/piste/login.json", "/root/.netrc", "/etc/nix/netrc"):
        assert f"closed: {file}" in build
    # The daemon fetches for anybody, and has no credential to do it with.
    without, _, given = fetches.partition("== where Nix is given a credential")
    assert "fetched http" not in without and without.count("HTTP error 404") >= 2, without
    assert not TOKEN.search(without)
    # With one, it would have: what arrives is only not what the attacker said that it is.
    assert "hash mismatch" in given and "HTTP error" not in given, given
