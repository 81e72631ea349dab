"""References, requirements and attribute paths that are wrong: the same words from every command, and nothing
is changed.
"""

from pathlib import Path

import pytest

from tests.bad_input.conftest import DOTTED, NOTES, Release, logged_in
from tests.running.closures import ATTRIBUTE
from tests.running.command import Finished, Person

WEB = f"#{ATTRIBUTE}"


@pytest.fixture(scope="module")
def host(release: Release, tmp_path_factory: pytest.TempPathFactory) -> Person:
    """A machine that stays as it is: the tests see to that."""
    return logged_in(release, tmp_path_factory.mktemp("host"))


def _nothing_changed(host: Person) -> bool:
    """Neither a root, nor a path, nor a deployment that came further than to be asked for."""
    store = host.root / "nix/store"
    paths = [path for path in store.iterdir() if path.name != ".links"] if store.exists() else []
    profile = host.root / "nix/var/nix/profiles/system"
    return not (host.folder / "link").is_symlink() and not paths and not profile.is_symlink()


def _all_that_take(host: Person, reference: str) -> list[Finished]:
    link = str(host.folder / "link")
    return [
        host.piste(*argv, "--json")
        for argv in (["resolve", reference], ["fetch", reference, link], ["apply", "nixos", reference])
    ]


@pytest.mark.parametrize(
    ("reference", "ref", "words"),
    [
        ("acme/none/1" + WEB, "not-found", "spelling"),
        ("nobody/web/1" + WEB, "not-found", "spelling"),
        ("acme/web/2" + WEB, "no-release-matches", "Ranges skip yanked releases"),
        ("acme/web/=1.0.1" + WEB, "no-release-matches", "No release of acme/web matches =1.0.1"),
        ("acme/web/1#nixosConfigurations.wep", "attribute-not-found", f"Did you mean {ATTRIBUTE}"),
        ("acme/web/1#nixosConfigurations.db.example.com", "attribute-not-found", f"Did you mean {DOTTED}"),
        (f"acme/web/1#{NOTES[:-1]}", "attribute-not-found", f"Did you mean {NOTES}?"),
        ("acme/web/1#something.quite.different", "attribute-not-found", "piste list outputs acme/web/=1.0.0"),
    ],
)
def test_what_is_not_there_is_said_with_what_to_do(
    release: Release, host: Person, reference: str, ref: str, words: str
) -> None:
    for done in _all_that_take(host, reference):
        problem = done.problem
        assert (done.code, problem["ref"], done.stdout) == (1, ref, "")
        assert words in f"{problem['message']} {problem['hint']}"
    assert _nothing_changed(host)


@pytest.mark.parametrize(
    ("requirement", "words"),
    [
        ("1.x.2", "after a wildcard"),
        (">=1,<", "the major number is missing"),
        ("one", "the major number is missing (at 'one')"),
        ("=1.0.0.0", "a comma must stand between"),
        ("01.2", "may not begin with a zero"),
        ("1 || 2", "is not a requirement"),
        ("..%2f..", "is not a requirement"),
        ("9" * 40, "is not a requirement"),
        (">1," * 40 + ">1", "at most 32 conditions"),
    ],
)
def test_a_malformed_requirement_is_a_mistake_of_who_typed_it(
    release: Release, host: Person, requirement: str, words: str
) -> None:
    for done in _all_that_take(host, f"acme/web/{requirement}{WEB}"):
        problem = done.problem
        assert (done.code, problem["ref"]) == (2, "bad-requirement")
        assert words in problem["message"]
        assert "`>=1, <3`" in problem["hint"]
    assert _nothing_changed(host)


@pytest.mark.parametrize(
    "reference",
    [
        "acme",
        "#x",
        "acme/web/1#",
        "acme/../web#x",
        "../../etc/passwd#x",
        "acme/web/../..#x",
        "acme/%2e%2e/1#x",
        "acme/web/1#a..b",
        "acme/web/1#a/../../b",
        'acme/web/1#"unclosed',
        "acme/web\n/1#x",
        "acme/we b/1#x",
        "a" * 100 + "/web#x",
        "acme/web/" + "1" * 5000 + "#x",
        "https://other.example/f/acme/web/1.tar.gz#x",
    ],
)
def test_what_is_no_reference_is_a_mistake_of_who_typed_it(
    release: Release, host: Person, reference: str
) -> None:
    for done in _all_that_take(host, reference):
        problem = done.problem
        assert (done.code, problem["ref"]) == (2, "bad-reference")
        assert problem["hint"]
    assert _nothing_changed(host)


def test_the_place_of_a_root_must_be_free(release: Release, host: Person, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("precious")
    done = host.piste("fetch", f"acme/web/1{WEB}", str(taken), "--json")
    assert (done.code, done.problem["ref"]) == (2, "link-exists")
    assert taken.read_text() == "precious"
    assert _nothing_changed(host)


def test_an_output_that_is_no_system_is_not_applied(release: Release, tmp_path: Path) -> None:
    host = logged_in(release, tmp_path)
    done = host.piste("apply", "nixos", f"acme/web/1#{NOTES}", "--json")
    assert (done.code, done.problem["ref"]) == (1, "not-a-configuration")
    assert not (host.root / "nix/var/nix/profiles/system").is_symlink()
    assert not (host.root / "run/current-system").is_symlink()
