"""What `flakehub-push` finds out with Nix before it speaks to anybody: metadata, source, outputs."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from piste.host.place import system_type
from tests.dialects.flakehub_push.pusher import inventory, leaf, pack
from tests.running.command import Person, check

ATTRIBUTE = "nixosConfigurations.web"


@dataclass(frozen=True)
class Found:
    metadata: dict[str, Any]  # of the release
    flake: dict[str, Any]  # what `nix flake metadata` says
    tarball: bytes
    outputs: dict[str, str]  # attribute path -> store path


def nix(person: Person, *arguments: str, cwd: Path | None = None) -> str:
    argv = ["nix", "--extra-experimental-features", "nix-command flakes", *arguments]
    return check(person.run(*argv, cwd=cwd), argv)


def find_out(person: Person, folder: Path, subfolder: str = "") -> Found:
    """In the client's order, with its arguments."""
    address = f"git+file://{folder}" + (f"?dir={subfolder}" if subfolder else "")
    flake = json.loads(nix(person, "flake", "metadata", "--json", "--no-write-lock-file", address))
    fetched = json.loads(nix(person, "flake", "prefetch", "--json", address))
    source = person.root / fetched["storePath"].lstrip("/") / subfolder
    outputs = {
        ATTRIBUTE: _path_of(person, address, f"{ATTRIBUTE}.config.system.build.toplevel"),
        f"packages.{system_type()}.default": _path_of(person, address, f"packages.{system_type()}.default"),
    }
    tree = {
        "nixosConfigurations": {"web": leaf(outputs[ATTRIBUTE], system_type(), what="NixOS configuration")},
        "packages": {
            system_type(): {"default": leaf(outputs[f"packages.{system_type()}.default"], system_type())}
        },
    }
    said = {
        "commit_count": flake["revCount"],
        "description": flake.get("description"),
        "outputs": inventory(tree),
        "raw_flake_metadata": flake,
        "revision": flake["revision"],
        "source_subdirectory": subfolder,
        "visibility": "private",
    }
    files = {str(path.relative_to(source)): path for path in source.rglob("*") if not _is_folder(path)}
    top = Path(fetched["storePath"]).name
    return Found(said, flake, pack(files, time=flake["lastModified"], top=top), outputs)


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _path_of(person: Person, address: str, attribute: str) -> str:
    return nix(person, "eval", "--raw", "--no-write-lock-file", f"{address}#{attribute}.outPath")
