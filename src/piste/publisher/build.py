"""Step 3: which outputs this machine gives to the release, and building them."""

import difflib
from collections.abc import Collection, Sequence

from piste.lib.errors import PisteError, UsageError
from piste.nix.flake_ref import AttributePath, format_attribute_path
from piste.nixcmd import build as nix_build
from piste.nixcmd.daemon import Daemon
from piste.nixcmd.store import Store
from piste.publisher.records import BrokenOutput, EvaluatedOutput, Evaluation, Progress, Wish

_SHOWN = 10  # broken outputs that an error lists; the number of the others is said


def choose(wish: Wish, evaluation: Evaluation, systems: Collection[str]) -> list[EvaluatedOutput]:
    """The outputs that must be complete in the release: those asked for, or all that can be built here."""
    if wish.attributes:
        by_path = {output.attribute: output for output in evaluation.outputs}
        _require_known(wish.attributes, evaluation)
        return [by_path[path] for path in dict.fromkeys(wish.attributes)]
    return [output for output in evaluation.outputs if output.system is None or output.system in systems]


def report_broken(wish: Wish, broken: Sequence[BrokenOutput], progress: Progress) -> None:
    """Broken outputs stop the publication, unless they are not among those asked for, or to be skipped."""
    if not broken:
        return
    if wish.attributes or wish.skip_broken:
        for output in broken:
            progress.warn(f"{output.name} does not evaluate and is left out: {output.reason}")
        return
    listed = "\n".join(f"  {output.name}: {output.reason}" for output in broken[:_SHOWN])
    more = f"\n  and {len(broken) - _SHOWN} more" if len(broken) > _SHOWN else ""
    raise PisteError(
        "evaluation-failed",
        f"{len(broken)} of the flake's outputs do not evaluate:\n{listed}{more}",
        hint="Mend them, publish some outputs only (--attribute), or leave these out (--skip-broken).",
    )


def build(
    store: Store, daemon: Daemon, wish: Wish, outputs: Sequence[EvaluatedOutput], progress: Progress
) -> list[EvaluatedOutput]:
    """Build what is not in the store yet; those of `outputs` that are there in the end."""
    absent = _absent(daemon, outputs)
    if absent and wish.build:
        progress.step(f"Building {len(absent)} of {len(outputs)} outputs")
        wanted = sorted({drv for output in absent for drv in output.derivations})
        completed = nix_build.realise(store, wanted, on_line=progress.line) if wanted else None
        absent = _absent(daemon, outputs)
        if absent:
            names = ", ".join(output.name for output in absent)
            said = completed.stderr.strip().splitlines()[-20:] if completed else []
            raise PisteError(
                "build-failed",
                f"These outputs did not build: {names}." + "".join(f"\n  {line}" for line in said),
                hint="Nothing was published. `nix log DERIVATION` shows a builder's whole output.",
            )
    if absent and wish.attributes:
        raise PisteError(
            "output-not-built",
            f"Not in the store: {', '.join(output.name for output in absent)}.",
            hint="Build them first, or leave out --no-build.",
        )
    return [output for output in outputs if output not in absent]


def _absent(daemon: Daemon, outputs: Sequence[EvaluatedOutput]) -> list[EvaluatedOutput]:
    valid = daemon.query_valid_paths(output.store_path for output in outputs)
    return [output for output in outputs if output.store_path not in valid]


def _require_known(paths: Sequence[AttributePath], evaluation: Evaluation) -> None:
    known = {output.attribute for output in evaluation.outputs}
    broken = {output.attribute: output for output in evaluation.broken}
    for path in paths:
        name = format_attribute_path(path)
        if path in known:
            continue
        names = [output.name for output in evaluation.outputs]
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        missing = path in broken and "missing" in broken[path].reason
        if path in broken and not (missing and near):
            raise PisteError("evaluation-failed", f"{name} does not evaluate: {broken[path].reason}")
        raise UsageError(
            "attribute-not-found",
            f"The flake has no output {name}.",
            hint=f"Did you mean {' or '.join(near)}?" if near else "`nix flake show` lists the outputs.",
        )
