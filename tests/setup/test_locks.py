"""The locks: what the check of them sees, and that ours pass it."""

import json
from pathlib import Path

from tools import check_locks
from tools.skipped import skipped

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = """
[project]
dependencies = ["Some.Thing==1.0; python_version < '3.14'"]
[project.optional-dependencies]
hub = ["server==2.0"]
[dependency-groups]
tools = ["tool==3"]
build = ["builder==4"]
dev = ["checker==5"]
"""


def test_ours_hold_every_pin_with_hashes_and_without_addresses() -> None:
    assert check_locks.main() == 0


def test_each_lock_has_its_pins() -> None:
    pins = check_locks.wanted_pins(PYPROJECT)
    assert pins["tools"] == {"tool": "3"}
    assert pins["run"] == {"some-thing": "1.0", "server": "2.0", "builder": "4"}
    assert pins["dev"] == {**pins["run"], "checker": "5"}


def test_a_pin_that_was_changed_without_the_lock_is_seen() -> None:
    text = "some-thing==1.0 \\\n    --hash=sha256:00\nserver==1.9 \\\n    --hash=sha256:11\n"
    assert check_locks.faults("run", text, {"some-thing": "1.0", "server": "2.0", "builder": "4"}) == [
        "run.lock: server is 1.9, pyproject.toml says 2.0",
        "run.lock: builder is not there, pyproject.toml says 4",
    ]


def test_a_package_without_a_hash_and_an_address_are_seen() -> None:
    assert check_locks.faults("run", "a==1\nb==2 \\\n    --hash=sha256:00\n", {}) == [
        "run.lock: no hash for a==1"
    ]
    text = "--index-url https://example.org\na==1 \\\n    --hash=sha256:00\n"
    assert check_locks.faults("run", text, {}) == ["run.lock: names an address"]


def test_skipped_tests_are_listed_by_reason() -> None:
    report = (
        "<testsuites><testsuite><testcase classname='t.a' name='x'><skipped message='no nix'/></testcase>"
        "<testcase classname='t.a' name='y'/></testsuite></testsuites>"
    )
    assert skipped(report) == {"no nix": ["t.a.x"]}


def test_the_lock_of_the_tests_provider_names_no_host_and_has_hashes() -> None:
    packages = json.loads((ROOT / "tests/identities/provider/package-lock.json").read_text())["packages"]
    locked = {name: entry for name, entry in packages.items() if name}
    assert locked and all(entry["integrity"].startswith("sha512-") for entry in locked.values())
    assert "://" not in json.dumps(packages)
