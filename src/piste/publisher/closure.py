"""Step 4: the closures of what was built, and the promise that no source is in them."""

import base64
from collections.abc import Mapping, Sequence

from piste.lib.errors import PisteError
from piste.nix.closure import chain
from piste.nix.narinfo import PathInfo
from piste.nix.store_path import StorePath
from piste.nixcmd.daemon import Daemon
from piste.nixcmd.flake import FlakeMetadata
from piste.publisher.records import EvaluatedOutput

Closure = Mapping[StorePath, PathInfo]


def read_closure(daemon: Daemon, outputs: Sequence[EvaluatedOutput]) -> dict[StorePath, PathInfo]:
    """Everything that the outputs reach; kept from the garbage collector while `daemon` is open."""
    roots = [output.store_path for output in outputs]
    daemon.add_temp_roots(roots)  # a root keeps its whole closure
    return daemon.closure(roots)


def check_no_source(closure: Closure, outputs: Sequence[EvaluatedOutput], flake: FlakeMetadata) -> None:
    """Refuse a closure that holds the flake's own source or a derivation; the error shows how it got in.

    The source is known by its path and by its NAR hash, since `"${./.}"` copies it under another name.
    """
    for path, info in closure.items():
        if path.name.endswith(".drv"):
            what = "a derivation, which tells how things are built"
        elif str(path) == flake.source or _sri(info) == flake.nar_hash:
            what = "the flake's own source"
        else:
            continue
        raise _source_error(closure, outputs, path, what)


def _source_error(
    closure: Closure, outputs: Sequence[EvaluatedOutput], path: StorePath, what: str
) -> PisteError:
    references = {key: info.references for key, info in closure.items()}
    for output in outputs:
        way = chain(references, output.store_path, path)
        if way is not None:
            shown = "\n".join(f"  {'→ ' if step else ''}{found}" for step, found in enumerate(way))
            return PisteError(
                "source-in-closure",
                f"The closure of {output.name} holds {what}, and every host could read it:\n{shown}",
                hint="Refer to single files instead of the whole folder, or give --allow-source.",
            )
    return PisteError("source-in-closure", f"{path} is {what}.", hint="Give --allow-source to allow it.")


def _sri(info: PathInfo) -> str:
    return "sha256-" + base64.b64encode(info.nar_hash.digest).decode()
