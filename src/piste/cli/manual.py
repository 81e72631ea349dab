"""`piste man` and `piste completion`: both made from the verbs themselves, so that they can't differ."""

import inspect
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final, Literal

from cyclopts import App, Parameter

from piste.cli import show
from piste.lib.errors import UsageError

Shell = Literal["bash", "zsh", "fish"]

_EXIT_STATUS: Final = (
    ("0", "Done."),
    ("1", "Failed."),
    ("2", "The command or the configuration is wrong."),
    ("3", "A deployment failed, and the host runs what it ran before."),
    ("4", "The outcome is unknown, or the other side can't be reached."),
    ("5", "Blocked: a reboot, a window or an approval must come first."),
    ("6", "The credential does not allow this."),
    ("7", "The way back failed as well: a person is needed."),
)
_ENVIRONMENT: Final = (
    ("PISTE_HUB", "The hub's address."),
    ("PISTE_TOKEN_FILE", "File that the token is read from."),
    ("PISTE_TOKEN", "The token itself."),
    ("PISTE_CONFIG_HOME", "Where the login is kept; /etc/piste for root."),
    ("PISTE_STORE", "The Nix store to act on, as Nix understands it."),
    ("PISTE_ROOT", "The root under which profiles and state live."),
    ("PISTE_DEBUG", "Set: an unexpected error shows its trace."),
)

# What zsh's script lacks: a call, where it is loaded from fpath as `_piste`; a name, where it is sourced.
_LAST: Final = {
    "zsh": """
if [[ $funcstack[1] == _piste ]]; then
  _cyclopts_piste "$@"
else
  compdef _cyclopts_piste piste
fi"""
}


def completion(
    shell: Annotated[Shell | None, Parameter(name="SHELL", help="bash, zsh or fish; else your own.")] = None,
    /,
) -> None:
    """Print the completion script for a shell.

    For example:

        piste completion bash > ~/.local/share/bash-completion/completions/piste

        piste completion zsh > ~/.zfunc/_piste      # with ~/.zfunc in fpath, before compinit

        piste completion fish > ~/.config/fish/completions/piste.fish
    """
    name = shell or Path(os.environ.get("SHELL", "")).name
    for known in ("bash", "zsh", "fish"):
        if name == known:
            show.line(_whole_app().generate_completion(prog_name="piste", shell=known) + _LAST.get(known, ""))
            return
    raise UsageError("usage", f"There is no completion for {name or 'an unknown shell'}: bash, zsh or fish.")


def man() -> None:
    """Print the manual page, in the form that `man` reads.

    For example:

        piste man | man -l -
    """
    show.line("\n".join(page()))


def page() -> Iterator[str]:
    """The lines of the manual page."""
    app = _whole_app()
    yield '.TH PISTE 1 "" "Piste" "User Commands"'
    yield from (".SH NAME", r"piste \- publish, resolve and apply releases of Nix flakes")
    yield from (".SH SYNOPSIS", r".B piste", r"\fICOMMAND\fR [\fIOPTION\fR]...", ".SH DESCRIPTION")
    yield from _text(app.help or "")
    yield ".SH COMMANDS"
    for name, verb in _verbs(app):
        yield from _command(name, verb)
    yield from _list("ENVIRONMENT", _ENVIRONMENT)
    yield from _list("EXIT STATUS", _EXIT_STATUS)


def _whole_app() -> App:
    from piste.cli.main import make_app

    return make_app(summaries=False)


def _verbs(app: App, prefix: str = "piste") -> Iterator[tuple[str, App]]:
    """Every command that does something, with its whole name."""
    for name in sorted(app):
        if name.startswith("-"):
            continue
        verb = app[name]
        whole = f"{prefix} {name}"
        if verb.default_command is not None:
            yield whole, verb
        yield from _verbs(verb, whole)


def _command(name: str, verb: App) -> Iterator[str]:
    arguments = [
        argument for argument in verb.assemble_argument_collection() if argument.parameter.show is not False
    ]
    positional = [argument for argument in arguments if argument.is_positional_only()]
    words = " ".join(rf"\fI{_escape(argument.names[0])}\fR" for argument in positional)
    yield f".SS {_escape(name)} {words} [\\fIOPTION\\fR]...".replace("  ", " ")
    yield from _text(verb.help or inspect.getdoc(verb.default_command) or "")
    for argument in arguments:
        names = ", ".join(_escape(text) for text in argument.names)
        required = " (required)" if argument.required else ""
        yield from (".TP", rf"\fB{names}\fR", _escape((argument.parameter.help or "").strip() + required))


def _text(text: str) -> Iterator[str]:
    """Paragraphs; indented ones are commands, shown as they are."""
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        lines = paragraph.splitlines()
        if lines and all(line.startswith("    ") for line in lines):
            yield from (".PP", ".RS 4", ".nf")
            yield from (_escape(line.strip()) for line in lines)
            yield from (".fi", ".RE")
        else:
            yield ".PP"
            yield from (_escape(line.strip()) for line in lines)


def _list(title: str, rows: tuple[tuple[str, str], ...]) -> Iterator[str]:
    yield f".SH {title}"
    for name, text in rows:
        yield from (".TP", rf"\fB{_escape(name)}\fR", _escape(text))


def _escape(text: str) -> str:
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "")
    escaped = "".join(one if one.isascii() else f"\\[u{ord(one):04X}]" for one in escaped)
    return "\\&" + escaped if escaped.startswith((".", "'")) else escaped
