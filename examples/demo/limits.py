"""What the host's token can't do, asked with plain HTTP: the answers are the hub's own."""

import json
from dataclasses import dataclass

from examples.demo import terminal
from examples.demo.actors import Actor, HubProcess, StopError

API = "/api/v1/projects/acme/web"
CACHE = "/cache/acme/web"
SYSTEM = "nixosConfigurations.web"


@dataclass(frozen=True)
class Question:
    """A request, with which credential, and whether it should be answered."""

    what: str
    path: str
    token: str
    name: str  # of the token
    allowed: bool = False


def show_limits(hub: HubProcess, publisher: Actor, token: str, system: str) -> None:
    """Ask for what the token may have, then for all that it may not."""
    terminal.explain(
        "The host's token resolves one output. What it gets is a second token, good for an hour, that reads"
        " the paths of that one closure. Nothing else opens: no source, no other output, no other path."
    )
    resolution = json.loads(hub.request(f"{API}/resolve/=1.1.0/{SYSTEM}?token=true", token)[1])
    notes = _store_path(publisher, "=1.1.0", f"packages.{system}.notes")
    older = _store_path(publisher, "=1.0.0", SYSTEM)
    closure = ("closure", resolution["token"])
    host = ("host", token)
    rows = [("what", "request", "token", "answer")]
    for what, path, (name, text), allowed in (
        ("its output", f"{API}/resolve/1/{SYSTEM}", host, True),
        ("a path of the closure", _narinfo(resolution["store_path"]), closure, True),
        ("the source", "/f/acme/web/1.tar.gz", host, False),
        ("the source", "/f/acme/web/1.tar.gz", closure, False),
        ("another output", f"{API}/resolve/1/packages.{system}.notes", host, False),
        ("that output's path", _narinfo(notes), closure, False),
        ("a path of another release", _narinfo(older), closure, False),
        ("another range", f"{API}/resolve/0.9/{SYSTEM}", host, False),
        ("the list of releases", f"{API}/releases", host, False),
    ):
        rows.append(_ask(hub, Question(what, path, text, name, allowed)))
    terminal.table(rows)


def _ask(hub: HubProcess, question: Question) -> tuple[str, str, str, str]:
    status, body = hub.request(question.path, question.token)
    if (status == 200) is not question.allowed:
        raise StopError(f"GET {question.path} was answered with {status}.")
    return (
        question.what,
        f"GET {question.path}",
        question.name,
        f"{status} {_reason(body) if status != 200 else 'OK'}",
    )


def _reason(body: bytes) -> str:
    """The stable name of the hub's error; a cache's answers to Nix have none."""
    try:
        reason: str = json.loads(body)["error"]["ref"]
    except (ValueError, KeyError, TypeError):
        return ""
    return reason


def _store_path(publisher: Actor, version: str, attribute: str) -> str:
    outputs = publisher.ask(f"piste list outputs acme/web/{version} --json")
    return next(str(one["store_path"]) for one in outputs if one["attribute"] == attribute)


def _narinfo(store_path: str) -> str:
    return f"{CACHE}/{store_path.removeprefix('/nix/store/')[:32]}.narinfo"
