"""Each dialect can be taken out, folder and line; the hub and the other dialects work on without it."""

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from piste.hub.app import DIALECTS
from tests.hub.process import Hub
from tests.hub.publishing import Acme, chain
from tests.running.command import ROOT

NAMES = [dialect.__module__.split(".")[2] for dialect in DIALECTS]
# One question that each dialect answers. A new dialect needs one here.
ASKED = {
    "flakehub": "/version/{org}/web/1",
    "attic": "/project/{org}/web",
    "inputs": "/f/{org}/web/1.tar.gz",
}


@pytest.fixture(params=NAMES)
def without(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Hub]]:
    """The name of a dialect, and a hub whose program does not have it."""
    name: str = request.param
    source = tmp_path / "src"
    shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.rmtree(source / "piste/hub" / name)
    root = source / "piste/hub/app.py"
    lines = root.read_text().splitlines(keepends=True)
    kept = [line for line in lines if not re.search(rf"\bpiste\.hub\.{name}\b|\b{name}_routes\b", line)]
    assert len(lines) - len(kept) == 2, "an import and a line of the table"
    root.write_text("".join(kept))
    start = f"import sys; sys.path.insert(0, {str(source)!r}); from piste.cli.main import main; main()"
    hub = Hub(tmp_path / "hub", program=(sys.executable, "-c", start))
    try:
        yield name, hub.start()
    finally:
        hub.close()


def test_there_is_a_question_for_every_dialect() -> None:
    assert set(ASKED) == set(NAMES)


def test_the_rest_works_without_a_dialect(without: tuple[str, Hub]) -> None:
    name, hub = without
    acme = Acme(hub)
    closure = chain("app")
    acme.publish("1.0.0", closure)
    resolved = acme.resolve("1").json()
    assert resolved["store_path"] == str(closure[-1].path)
    for path in closure:
        assert acme.narinfo(path, token=resolved["token"]).status == 200
    assert acme.ask("GET", f"{acme.base}/releases/1/source").status == 200
    answers = {
        other: acme.ask("GET", question.format(org=acme.organization)).status
        for other, question in ASKED.items()
    }
    assert answers.pop(name) == 404
    assert set(answers.values()) <= {200, 307}
