"""How apply and rollback tell the end of a deployment, and which exit code that is."""

from typing import Final

from piste.cli import show
from piste.host.records import Outcome, Result
from piste.lib.errors import BlockedError, PisteError, RolledBackError, StrandedError

_CODES: Final = {
    Result.FAILED: PisteError.exit_code,
    Result.ROLLED_BACK: RolledBackError.exit_code,
    Result.BLOCKED: BlockedError.exit_code,
    Result.ROLLBACK_FAILED: StrandedError.exit_code,
}

_SENTENCES: Final = {
    Result.COMMITTED: "{path} runs, and is what boots: generation {generation}.",
    Result.UNCHANGED: "{path} runs already. Nothing was changed.",
    Result.TESTED: "{path} runs until the next boot.",
    Result.STAGED: "{path} runs from the next boot on: generation {generation}.",
    Result.DRY_RUN: "Nothing was changed.",
    Result.ROLLED_BACK: "{reason} Rolled back: {previous} runs again.",
    Result.ROLLBACK_FAILED: "{reason} Somebody has to look at this machine.",
    Result.BLOCKED: "{reason} Nothing was changed.",
    Result.FAILED: "{reason}",
}


def show_outcome(outcome: Outcome, as_json: bool) -> int:
    """Print the result, alone; the exit code."""
    code = _CODES.get(outcome.result, 0)
    sentence = _SENTENCES[outcome.result].format(
        path=outcome.store_path,
        generation=outcome.generation,
        previous=outcome.previous,
        reason=outcome.reason,
    )
    if as_json:
        show.data(outcome)
    elif code == 0:
        show.line(f"{outcome.result}: {sentence}")
    else:
        show.line(outcome.result.value)
    if code:
        show.error(_problem(outcome, sentence), as_json=as_json)
    return code


def _problem(outcome: Outcome, sentence: str) -> PisteError:
    context = {"units": ", ".join(outcome.newly_failed_units)} if outcome.newly_failed_units else {}
    kinds = {
        Result.ROLLED_BACK: RolledBackError,
        Result.ROLLBACK_FAILED: StrandedError,
        Result.BLOCKED: BlockedError,
    }
    kind = kinds.get(outcome.result, PisteError)
    ref = "activation-failed" if outcome.result is Result.FAILED else outcome.result.value
    return kind(ref, sentence, context=context)
