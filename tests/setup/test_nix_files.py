"""Every Nix file parses with real Nix, the flake has its outputs, and the package names what Piste needs."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.setup.nix import ROOT, evaluate, nix_instantiate

NIX_FILES = sorted(
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.nix"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
)
FLAKE = """
let
  standIn = import {root}/tests/setup/stand_in.nix;
  flake = import {root}/flake.nix;
  system = standIn.pkgs // {{
    extend = overlay: system // {{ overlaid = builtins.attrNames (overlay system system); }};
    callPackage = file: _arguments: file;
    mkShell = arguments: arguments;
    git = "git"; gnumake = "make"; nix = "nix"; python3 = "python"; nixfmt = "nixfmt";
  }};
  outputs = flake.outputs {{
    self = outputs;
    nixpkgs = {{ inherit (standIn) lib; legacyPackages = standIn.lib.genAttrs
      [ "x86_64-linux" "aarch64-linux" "x86_64-darwin" "aarch64-darwin" ] (_: system); }};
  }};
in {expression}
"""


@pytest.mark.parametrize("file", NIX_FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_it_parses_with_real_nix(file: Path, tmp_path: Path) -> None:
    done = nix_instantiate(tmp_path, "--parse", str(file))
    assert done.returncode == 0, done.stderr


def test_the_flake_has_package_overlay_modules_and_shell(tmp_path: Path) -> None:
    names = evaluate(tmp_path, _flake("builtins.mapAttrs (_: builtins.attrNames) outputs"))
    systems = ["aarch64-darwin", "aarch64-linux", "x86_64-darwin", "x86_64-linux"]
    assert names["packages"] == names["devShells"] == systems
    assert names["nixosModules"] == ["default", "piste-agent", "piste-hub"]
    assert names["overlays"] == ["default"]


def test_the_flakes_modules_bring_their_package_along(tmp_path: Path) -> None:
    expression = "builtins.length (standIn.evaluate [ outputs.nixosModules.default ]).nixpkgs.overlays"
    assert evaluate(tmp_path, _flake(expression)) == 2  # hub and agent: each may be imported alone


def test_the_package_names_every_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["hub"]]
    package = (ROOT / "nix/package.nix").read_text(encoding="utf-8")
    for requirement in wanted:
        name = re.split(r"[=<>; ]", requirement)[0].replace(".", "-")
        assert re.search(rf"\b{name}\b", package), name


def test_the_modules_evaluate_with_real_nixpkgs(tmp_path: Path) -> None:
    nixpkgs = os.environ.get("PISTE_TEST_NIXPKGS")
    if not nixpkgs:
        pytest.skip("no nixpkgs on this machine: PISTE_TEST_NIXPKGS names a folder that holds one")
    expression = f"""
      let system = import {nixpkgs}/nixos/lib/eval-config.nix {{ system = "x86_64-linux"; modules = [
        {ROOT}/nix/hub.nix {ROOT}/nix/agent.nix
        {{ nixpkgs.overlays = [ (import {ROOT}/nix/overlay.nix) ]; system.stateVersion = "26.05";
          services.piste-hub = {{ enable = true; publicUrl = "https://hub.example.org"; }};
          services.piste-agent = {{ enable = true; hub = "https://hub.example.org";
            reference = "acme/web/0.1"; trustedPublicKeys = [ "acme-1:AAAA" ]; }}; }} ]; }};
      in builtins.attrNames system.config.systemd.services
    """
    services = evaluate(tmp_path, expression)
    assert {"piste-hub", "piste-agent"} <= set(services)


def _flake(expression: str) -> str:
    return FLAKE.format(root=ROOT, expression=expression)
