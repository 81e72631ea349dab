"""The last page: times, bytes, and how to do the same on one's own machines."""

import re
from pathlib import Path

from examples.demo import terminal
from examples.demo.actors import Actor

OWN_MACHINES = (
    ("a server", "piste hub serve --data /var/lib/piste --public-url https://hub.example.org"),
    ("", "piste hub admin-token --data /var/lib/piste > TOKEN"),
    ("an admin", "export PISTE_HUB=https://hub.example.org"),
    ("", "piste login --token-file TOKEN"),
    ("", "piste org create ORG"),
    ("", "piste token create --kind user --org ORG --description CI > CI-TOKEN"),
    ("CI", "export PISTE_HUB=https://hub.example.org PISTE_TOKEN_FILE=CI-TOKEN"),
    ("", "piste publish . --name ORG/PROJECT --version 1.0.0"),
    ("an admin", "piste token create --kind resolve-only --org ORG --project ORG/PROJECT \\"),
    ("", "    --requirement 1 --attribute nixosConfigurations.NAME --description NAME > HOST-TOKEN"),
    ("a host", "piste login --hub https://hub.example.org --token-file HOST-TOKEN"),
    ("", "piste apply nixos ORG/PROJECT/1#nixosConfigurations.NAME"),
    ("", "piste rollback"),
)


def sent(outputs: Path) -> str:
    """What a publication sent, from what it handed to the next steps of a workflow; the file is emptied."""
    text = outputs.read_text()
    outputs.write_text("")
    numbers = {name: int(value) for name, value in re.findall(r"^(\w+)<<\S+\n(\d+)\n", text, re.MULTILINE)}
    return f"{numbers['paths_uploaded']} paths, {shown(numbers['bytes_uploaded'])} up"


def received(host: Actor) -> str:
    """What the last deployment fetched, from the host's own history."""
    last = host.ask("piste history --json")[0]
    return f"{last.get('paths_fetched') or 0} paths, {shown(last.get('bytes_received') or 0)} down"


def show_ending(*actors: Actor) -> None:
    """One row a step, then the commands."""
    rows = [("step", "seconds", "on the wire")]
    for actor in actors:
        rows += [(step, f"{took:.2f}", actor.wire.get(step, "")) for step, took in actor.seconds.items()]
    terminal.table(rows, numbers=(1,))
    terminal.out("")
    terminal.explain(
        "Times are those of the whole command. Evaluation and building are in the publications, and"
        " nowhere else."
    )
    terminal.heading(10, "The same on your own machines")
    for where, line in OWN_MACHINES:
        terminal.out(f"{terminal.MARGIN}{terminal.paint(where.ljust(10), '2')}{line}")


def shown(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
