"""The command `piste`: its verbs by name, each imported only when it is called, and the border where
errors become messages and exit codes.
"""

import contextlib
import errno
import os
import sys
from typing import Final

from cyclopts import App, CycloptsError, Parameter

from piste.cli import show
from piste.lib.errors import PisteError, UsageError

_INTERRUPTED: Final = 130  # as shells report a program that SIGINT ended

# What is wrong with a path that somebody gave, not with this program.
_MISPLACED: Final = frozenset(
    (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG)
)

# Verb, place, and the one line that `piste --help` shows.
_VERBS: Final = (
    ("publish", "piste.cli.publish:publish", "Build a flake's outputs, push them, make a release."),
    ("apply", "piste.cli.apply:apply", "Bring a released configuration to life on this machine."),
    ("rollback", "piste.cli.rollback:rollback", "Go back to what ran before."),
    ("history", "piste.cli.history:history", "List what was deployed on this machine."),
    ("diff", "piste.cli.diff:diff", "Show what applying a reference would change."),
    ("fetch", "piste.cli.fetch:fetch", "Fetch a released output and its closure into the store."),
    ("resolve", "piste.cli.resolve:resolve", "Print the store path of a reference."),
    ("search", "piste.cli.search:search", "Find projects by name, description or label."),
    ("requirement", "piste.cli.requirement:requirement", "Show which versions a requirement allows."),
    ("yank", "piste.cli.yank:yank", "Withdraw a release: ranges no longer choose it."),
    ("unyank", "piste.cli.yank:unyank", "Take a withdrawal back."),
    ("login", "piste.cli.login:login", "Log in to a hub with a token."),
    ("logout", "piste.cli.login:logout", "Forget the stored login."),
    ("status", "piste.cli.login:status", "Say who is logged in, and where."),
    ("audit", "piste.cli.audit:audit", "Who did what, and what was refused."),
    ("completion", "piste.cli.manual:completion", "Print the completion script for a shell."),
    ("man", "piste.cli.manual:man", "Print the manual page."),
)

_GROUPS: Final = (
    ("list", "piste.cli.listing:app", "List projects, organizations, releases, versions, outputs."),
    ("project", "piste.cli.project:app", "Show and change projects."),
    ("org", "piste.cli.organization:app", "Organizations, their members and upstream caches."),
    ("token", "piste.cli.token:app", "Create, list, rotate and revoke tokens."),
    ("trust", "piste.cli.trust:app", "Let a CI publish by its identity, without a stored token."),
    ("cache", "piste.cli.cache:app", "Push paths to a project's cache, and look into it."),
    ("hub", "piste.cli.hub:app", "Run a hub and look after it."),
)

_HELP: Final = """Publish a NixOS configuration once; every machine that may have it runs it seconds later.

For example:

    piste login --hub https://hub.example.org

    piste publish --name acme/web --version 1.4.0

    piste apply nixos acme/web/1#nixosConfigurations.web
"""


def _version() -> str:
    from importlib.metadata import version

    return "piste " + version("piste")


def _shown_default(value: object) -> str | None:
    """Defaults that tell something: not `False` beside a switch, not `()` beside a list."""
    return str(value) if value not in (None, False, (), "") else None


def make_app(verb: str | None = None, *, summaries: bool = True) -> App:
    """The command with all its verbs; none of them is imported before it is called.

    The summaries spare the list of verbs their import; `verb`, or all without `summaries`, speak for
    themselves.
    """
    app = App(
        name="piste",
        help=_HELP,
        help_format="markdown",
        version=_version,
        print_error=False,
        exit_on_error=False,
        result_action="return_value",
        suppress_keyboard_interrupt=False,
        default_parameter=Parameter(show_default=_shown_default),
    )
    for name, place, summary in (*_VERBS, *_GROUPS):
        app.command(place, name=name, help=summary if summaries and name != verb else None)
    return app


def main() -> None:
    """Entry point of the command; ends the process with the exit code of the outcome."""
    code = run(sys.argv[1:])
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # nobody reads it any more
            stream.flush()
    # Everything that had to be closed is. To take the interpreter apart, piece by piece, takes a twentieth of
    # a second, which is much of a command that takes three.
    os._exit(code)


def run(arguments: list[str]) -> int:
    """Run one command and give its exit code; every error has been shown."""
    try:
        result = make_app(next(iter(arguments), None))(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has gone. Point it elsewhere, or Python complains once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED
    except Exception as error:
        problem = as_problem(error, arguments)
        if problem is None:
            raise
        show.error(problem, as_json="--json" in arguments)
        return problem.exit_code
    return result if isinstance(result, int) else 0


def _called(arguments: list[str]) -> str:
    """The command that was meant, without its arguments: `piste org upstream add`."""
    app, words = make_app(), ["piste"]
    for word in arguments:
        if word.startswith("-") or word not in app:
            break
        app = app[word]
        words.append(word)
    return " ".join(words)


def as_problem(error: Exception, arguments: list[str]) -> PisteError | None:
    """The error that a person is shown for any exception; None where a trace is asked for."""
    if isinstance(error, CycloptsError):
        error = UsageError("usage", str(error))
    if isinstance(error, UsageError) and error.hint is None:
        error.hint = f"`{_called(arguments)} --help` explains the command."
    if isinstance(error, PisteError):
        return error
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        place = f" ({error.filename})" if error.filename else ""
        return PisteError(
            "disk-full",
            f"There is no space left on the disk{place}. Nothing was left half done.",
            hint="Make room (for the store: `nix-collect-garbage`), or set TMPDIR to a larger folder.",
        )
    if isinstance(error, OSError) and error.errno in _MISPLACED and error.filename:
        return PisteError(
            "file-not-usable",
            f"{os.fsdecode(error.filename)} can't be used: {error.strerror}.",
            hint="Check the path, and whether this user may read or write there.",
        )
    if "PISTE_DEBUG" in os.environ:
        return None
    return PisteError(
        "internal-error",
        f"This should not have happened: {type(error).__name__}: {error}",
        hint="Set PISTE_DEBUG=1 for a trace, and report it together with the command.",
    )
