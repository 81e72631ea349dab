"""Step 2: find and evaluate the flake's outputs, in parallel, so that one broken output hides no other.

Nix can't catch every error inside an evaluation, so a batch that fails is halved until the culprits stand
alone. Each process is Nix's own; how many there are at once depends on cores and memory.
"""

import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from piste.lib.process import CommandError
from piste.nix.flake_ref import AttributePath
from piste.nix.store_path import StorePath, StorePathError
from piste.nixcmd.flake import evaluate
from piste.nixcmd.store import STORE_DIR, Store
from piste.publisher import expressions
from piste.publisher.records import BrokenOutput, EvaluatedOutput, Evaluation

T = TypeVar("T")

# One evaluation of a NixOS configuration takes 0.5 to 2 GiB; two of them in 2 GiB would swap.
_MEMORY_EACH: Final = 2 << 30
_BATCH: Final = 64  # outputs in one process; an argument may have 128 KiB
_HEAVY: Final = 8  # a configuration costs about as much as so many packages
_REASON_LINES: Final = 12


def evaluate_flake(
    store: Store, url: str, *, pure: bool, extra: Sequence[AttributePath] = (), workers: int | None = None
) -> Evaluation:
    """All outputs of the standard kinds, and the `extra` ones, each evaluated or broken."""
    finder = _Finder(store, url, pure, workers or default_workers())
    paths, broken = finder.names()
    paths += [path for path in extra if path not in paths]
    found = finder.run(paths, expressions.outputs_at)
    broken += [BrokenOutput(path, reason) for path, reason in found.reasons.items()]
    outputs = []
    for path in paths:
        if path in found.values:
            output = _read_output(path, found.values[path])
            if isinstance(output, BrokenOutput):
                broken.append(output)
            else:
                outputs.append(output)
    return Evaluation(outputs, broken)


def default_workers() -> int:
    """How many evaluations run at once."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, _free_memory() // _MEMORY_EACH))


def _free_memory() -> int:
    try:
        found = re.search(r"MemAvailable:\s*(\d+) kB", Path("/proc/meminfo").read_text())
    except OSError:
        found = None
    return int(found[1]) * 1024 if found else _MEMORY_EACH


class _Found(Generic[T]):
    """Values of what evaluated, reasons of what did not."""

    def __init__(self) -> None:
        self.values: dict[T, Any] = {}
        self.reasons: dict[T, str] = {}


class _Finder:
    def __init__(self, store: Store, url: str, pure: bool, workers: int) -> None:
        self._store = store
        self._url = url
        self._pure = pure
        self._workers = workers

    def names(self) -> tuple[list[AttributePath], list[BrokenOutput]]:
        """Where outputs stand, without evaluating them."""
        found = self.run(expressions.KINDS, expressions.names_of_kinds, batches=1)
        paths: list[AttributePath] = []
        for kind, value in found.values.items():
            if isinstance(value, dict):
                paths += [(kind, system, name) for system in value for name in value[system]]
            else:
                paths += [(kind, name) for name in value]
        broken = []
        for kind, reason in found.reasons.items():
            if kind in expressions.PER_SYSTEM:
                more, worse = self._names_by_system(kind)
                paths += more
                broken += worse
            else:
                broken.append(BrokenOutput((kind,), reason))
        return sorted(paths), broken

    def _names_by_system(self, kind: str) -> tuple[list[AttributePath], list[BrokenOutput]]:
        """For a kind whose systems can't be listed all at once: one after another."""
        systems = self.run([(kind,)], expressions.names_at)
        if systems.reasons:
            return [], [BrokenOutput(path, reason) for path, reason in systems.reasons.items()]
        places: list[AttributePath] = [(kind, system) for system in systems.values[(kind,)]]
        found = self.run(places, expressions.names_at)
        paths = [(*place, name) for place, names in found.values.items() for name in names]
        return paths, [BrokenOutput(place, reason) for place, reason in found.reasons.items()]

    def run(
        self, items: Sequence[T], expression: Callable[[str, Sequence[T]], str], batches: int | None = None
    ) -> _Found[T]:
        """Evaluate `expression` over all items; batches that fail are halved until one item stands alone."""
        found: _Found[T] = _Found()
        with ThreadPoolExecutor(self._workers) as pool:
            under_way: dict[Future[list[Any]], Sequence[T]] = {}

            def submit(batch: Sequence[T]) -> None:
                text = expression(self._url, batch)
                under_way[pool.submit(evaluate, self._store, text, impure=not self._pure)] = batch

            for batch in _batches(items, batches or self._workers):
                submit(batch)
            while under_way:
                for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                    batch = under_way.pop(future)
                    try:
                        found.values.update(zip(batch, future.result(), strict=True))
                    except CommandError as error:
                        if len(batch) == 1:
                            found.reasons[batch[0]] = _reason(error)
                        else:
                            half = len(batch) // 2
                            submit(batch[:half])
                            submit(batch[half:])
        return found


def _batches(items: Sequence[T], count: int) -> list[Sequence[T]]:
    """Split into about `count` batches of like weight; a light load stays in one process."""
    weights = [_weight(item) for item in items]
    target = max(_HEAVY, -(-sum(weights) // count))
    batches: list[Sequence[T]] = []
    start = filled = 0
    for place, weight in enumerate(weights):
        if place > start and (filled + weight > target or place - start >= _BATCH):
            batches.append(items[start:place])
            start, filled = place, 0
        filled += weight
    if start < len(items):
        batches.append(items[start:])
    return batches


def _weight(item: object) -> int:
    return _HEAVY if isinstance(item, tuple) and item[0] in expressions.CONFIGURATIONS else 1


def _reason(error: CommandError) -> str:
    """What Nix said in the end; the last `error:` starts the part that names the cause."""
    said = error.completed.stderr.strip()
    cause = said[said.rfind("error:") :] if "error:" in said else said
    lines = cause.removeprefix("error:").strip().splitlines()
    kept = [line.rstrip() for line in lines if "--show-trace" not in line][:_REASON_LINES]
    return "\n".join(kept).strip() or f"the evaluator ended with status {error.completed.code}"


def _read_output(path: AttributePath, value: dict[str, Any]) -> EvaluatedOutput | BrokenOutput:
    """`value` as `expressions.outputs_at` gives it; a path may lie below its store path, as an app's does."""
    base = value["path"].removeprefix(STORE_DIR + "/").partition("/")[0]
    try:
        store_path = StorePath.from_base_name(base)
    except StorePathError:
        return BrokenOutput(path, f"its path {value['path']!r} is not in the store")
    wanted = [f"{drv}!{name}" for drv, names in value["context"].items() for name in names]
    return EvaluatedOutput(path, store_path, tuple(wanted), value["system"] or None)
