"""A host believes the organization's key alone: not the hub, nor what stands between the hub and it."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from piste.lib.zstd import zstd
from piste.nix.signature import SecretKey
from tests.attacks.liar import Liar, running_liar
from tests.hub.process import Hub
from tests.running.closures import ATTRIBUTE, Member, make_closure, member, publish
from tests.running.command import Finished, Person, check
from tests.running.nix import has
from tests.running.system import busybox, system
from tests.running.tenants import Tenant

NOTES = "packages.x86_64-linux.notes"


@dataclass(frozen=True)
class Releases:
    """Two versions of a system, an output beside it, and another project of the same organization."""

    shell: Member
    old: Member
    new: Member
    notes: Member
    elsewhere: Member
    other: Tenant


@pytest.fixture(scope="module")
def releases(acme: Tenant) -> Releases:
    shell, notes = busybox(), member("notes", "notes", b"notes")
    old, new, elsewhere = system("old", shell), system("new", shell), system("elsewhere", shell)
    other = acme.another_project("other")
    with acme.client() as client:
        for version, top in (("1.0.0", old), ("2.0.0", new)):
            members, outputs = [shell, notes, top], {ATTRIBUTE: top, NOTES: notes}
            publish(client, acme.organization, acme.project, version, members, outputs=outputs)
        publish(client, other.organization, other.project, "2.0.0", [shell, elsewhere])
    return Releases(shell, old, new, notes, elsewhere, other)


@pytest.fixture(scope="module")
def liar(hub: Hub) -> Iterator[Liar]:
    with running_liar(hub.url) as made:
        yield made


@pytest.fixture
def host(acme: Tenant, liar: Liar, releases: Releases, tmp_path: Path) -> Person:
    """A host that knows the hub by the liar's address, and logged in while it was honest."""
    liar.honest()
    machine = Person(tmp_path / "host", hub=liar.url, token=acme.token)
    machine.succeed("login", "--trusted-key", str(acme.key))
    return machine


def _fetch(acme: Tenant, host: Person, requirement: str = "*", attribute: str = ATTRIBUTE) -> Finished:
    link = str(host.folder / "link")
    return host.piste("fetch", f"{acme.name}/{requirement}#{attribute}", link, "--json")


def _assert_refused(host: Person, done: Finished, *members: Member, refs: tuple[str, ...]) -> None:
    assert done.code not in (0, 2), done
    assert done.problem["ref"] in refs, done.stderr
    assert not (host.folder / "link").is_symlink()
    for each in members:
        assert not has(host, str(each.path))


def _edited(change: Callable[[dict[str, Any]], None]) -> Callable[[str, bytes], bytes]:
    """A lie about resolutions, asked for alone or with the plan."""

    def lie(path: str, body: bytes) -> bytes:
        if "/resolve/" not in path and "/plan/" not in path:
            return body
        answer = json.loads(body)
        change(answer.get("resolution", answer))
        return json.dumps(answer).encode()

    return lie


def test_through_an_honest_proxy_the_release_arrives(
    acme: Tenant, host: Person, liar: Liar, releases: Releases
) -> None:
    done = _fetch(acme, host)
    assert done.code == 0, done.stderr
    assert done.json["store_path"] == str(releases.new.path)
    assert any("/nar/" in path for path in liar.asked)


def test_an_older_release_than_the_committed_one_is_refused_though_its_statement_is_genuine(
    acme: Tenant, host: Person, liar: Liar, releases: Releases
) -> None:
    reference = f"{acme.name}/*#{ATTRIBUTE}"
    applied = host.piste("apply", "nixos", reference, "--json")
    assert applied.code == 0, applied.stderr
    assert applied.json["version"] == "2.0.0"
    liar.detour = lambda path: path.replace("/plan/%2A/", "/plan/%3D1.0.0/")
    _assert_refused(host, _fetch(acme, host), releases.old, refs=("older-than-committed",))
    again = host.piste("apply", "nixos", reference, "--json")
    assert (again.code, again.problem["ref"]) == (1, "older-than-committed")
    liar.honest()
    exact = _fetch(acme, host, "=1.0.0")
    assert exact.code == 0, exact.stderr


@pytest.mark.parametrize(
    "lie", ["another output", "another project", "another version", "not the exact version"]
)
def test_a_genuine_answer_to_another_question_is_refused(
    acme: Tenant, host: Person, liar: Liar, releases: Releases, lie: str
) -> None:
    requirement = {"another version": "1", "not the exact version": "=1.0.0"}.get(lie, "*")
    detours: dict[str, Callable[[str], str]] = {
        "another output": lambda path: path.replace(ATTRIBUTE, NOTES),
        "another project": lambda path: path.replace(f"/{acme.name}/plan", f"/{releases.other.name}/plan"),
        "another version": lambda path: path.replace("/plan/1/", "/plan/2/"),
        "not the exact version": lambda path: path.replace("/plan/%3D1.0.0/", "/plan/%3D2.0.0/"),
    }
    liar.detour = detours[lie]
    done = _fetch(acme, host, requirement)
    wrong = (releases.notes, releases.elsewhere, releases.new)
    _assert_refused(host, done, *wrong, refs=("statement-differs",))


@pytest.mark.parametrize("signer", ["nobody", "the old signature", "a key of the same name"])
def test_a_forged_statement_is_refused(
    acme: Tenant, host: Person, liar: Liar, releases: Releases, signer: str
) -> None:
    forger = SecretKey.generate(acme.key.name)

    def forge(answer: dict[str, Any]) -> None:
        for name in ("statement", "store_path"):
            answer[name] = answer[name].replace(str(releases.new.path), str(releases.old.path))
        if signer != "the old signature":
            answer["statement_signatures"] = []
        if signer == "a key of the same name":
            answer["statement_signatures"] = [forger.sign(answer["statement"])]

    liar.lie = _edited(forge)
    _assert_refused(host, _fetch(acme, host), releases.old, releases.new, refs=("untrusted-statement",))


@pytest.mark.parametrize("field", ["store_path", "manifest", "version", "attribute_path", "project"])
def test_an_answer_that_its_statement_does_not_cover_is_refused(
    acme: Tenant, host: Person, liar: Liar, releases: Releases, field: str
) -> None:
    others = {
        "store_path": str(releases.old.path),
        "manifest": "sha256:" + "0" * 64,
        "version": "3.0.0",
        "attribute_path": NOTES,
        "project": "other",
    }

    def change(answer: dict[str, Any]) -> None:
        answer[field] = others[field]

    liar.lie = _edited(change)
    _assert_refused(host, _fetch(acme, host), releases.old, releases.new, refs=("statement-differs",))


@pytest.mark.parametrize("forgery", ["a path more", "another hash", "cut short", "another release's"])
def test_a_forged_manifest_is_refused(
    acme: Tenant, host: Person, liar: Liar, releases: Releases, forgery: str
) -> None:
    def lie(path: str, body: bytes) -> bytes:
        if "/plan/" in path:
            return b"[]"  # as of a hub that has no plans
        if "/manifest/" not in path or path.endswith("/sources"):
            return body
        manifest = json.loads(body)
        match forgery:
            case "a path more":
                manifest["paths"].insert(0, {**manifest["paths"][0], "path": releases.notes.path.base_name})
            case "another hash":
                manifest["paths"][-1]["nar_hash"] = releases.old.nar_hash.nix32()
            case "another release's":
                manifest["paths"][-1]["path"] = releases.old.path.base_name
            case "cut short":
                return body[:-20]
        return json.dumps(manifest, separators=(",", ":")).encode()

    liar.lie = lie
    _assert_refused(host, _fetch(acme, host), releases.old, releases.new, refs=("bad-manifest", "bad-answer"))


@pytest.mark.parametrize("forgery", ["a path more", "another hash", "cut short", "another release's"])
def test_a_forged_manifest_within_a_plan_is_refused(
    acme: Tenant, host: Person, liar: Liar, releases: Releases, forgery: str
) -> None:
    def lie(path: str, body: bytes) -> bytes:
        if "/plan/" not in path:
            return body
        answer = json.loads(body)
        manifest = answer["manifest"]
        match forgery:
            case "a path more":
                manifest["order"] = [0, 1, *manifest["order"]]
            case "another hash":
                manifest["nar_hashes"] = manifest["nar_hashes"][:-52] + releases.old.nar_hash.base32
            case "another release's":
                manifest["hash_parts"] = manifest["hash_parts"][:-32] + releases.old.path.hash_part
            case "cut short":
                manifest["order"] = [-1, manifest["order"][1] - 1]
        return json.dumps(answer).encode()

    liar.lie = lie
    _assert_refused(host, _fetch(acme, host), releases.old, releases.new, refs=("bad-manifest",))


def _replaced_nar(releases: Releases, kind: str) -> Callable[[str, bytes], bytes]:
    """A lie about the NAR of the new system."""

    def lie(path: str, body: bytes) -> bytes:
        if f"/nar/{releases.new.nar_hash.base32}" not in path:
            return body
        match kind:
            case "another NAR":
                return zstd.compress(releases.old.nar)
            case "a damaged file":
                return (
                    body[: len(body) // 2] + bytes([body[len(body) // 2] ^ 255]) + body[len(body) // 2 + 1 :]
                )
            case "a bomb":
                return zstd.compress(bytes(1 << 30))
            case _:
                return body[: len(body) // 2]

    return lie


@pytest.mark.parametrize("kind", ["another NAR", "a damaged file", "a bomb", "half of it"])
def test_other_bytes_than_the_manifest_names_are_refused(
    acme: Tenant, host: Person, liar: Liar, releases: Releases, kind: str
) -> None:
    liar.lie = _replaced_nar(releases, kind)
    done = _fetch(acme, host)
    refs = ("nar-corrupt", "transfer-mismatch", "hub-unreachable")
    _assert_refused(host, done, releases.new, refs=refs)
    # What came whole before stays, and the next attempt needs no more than the rest.
    liar.honest()
    again = _fetch(acme, host)
    assert again.code == 0, again.stderr
    assert again.json["paths_fetched"] <= 2


@pytest.mark.parametrize("kind", ["exchanged", "one byte", "longer"])
def test_other_bytes_in_a_bundle_of_small_nars_are_refused(
    acme: Tenant, host: Person, liar: Liar, kind: str
) -> None:
    small = acme.another_project(f"small-{kind.replace(' ', '-')}")
    members = make_closure(5, paths=8, size=4000)
    with small.client() as client:
        publish(client, small.organization, small.project, "1.0.0", members)

    def lie(path: str, body: bytes) -> bytes:
        if "/nars?places=0-7" not in path:
            return body
        match kind:
            case "exchanged":
                return body[len(body) // 2 :] + body[: len(body) // 2]
            case "one byte":
                return body[:-100] + bytes([body[-100] ^ 255]) + body[-99:]
        return body + b"x"

    liar.lie = lie
    refs = ("nar-corrupt", "transfer-mismatch", "hub-unreachable")
    _assert_refused(host, _fetch(small, host), members[-1], refs=refs)
    assert any("/nars?places=0-7" in path for path in liar.asked)
    liar.honest()
    again = _fetch(small, host)
    assert again.code == 0, again.stderr


def test_a_bundle_that_is_cut_is_made_whole_from_its_nars(acme: Tenant, host: Person, liar: Liar) -> None:
    small = acme.another_project("small-cut")
    members = make_closure(5, paths=8, size=4000)
    with small.client() as client:
        publish(client, small.organization, small.project, "1.0.0", members)
    liar.lie = lambda path, body: body[: len(body) // 2] if "/nars?places=0-7" in path else body
    done = _fetch(small, host)
    assert (done.code, done.json["paths_fetched"]) == (0, 8), done.stderr
    assert len([path for path in liar.asked if "/nar" in path]) > 1
    check(host.run("nix-store", "--verify", "--check-contents"))


def test_signatures_of_another_key_are_refused_by_nix(
    acme: Tenant, host: Person, liar: Liar, releases: Releases
) -> None:
    forger = SecretKey.generate(acme.key.name)

    def lie(path: str, body: bytes) -> bytes:
        if "/plan/" not in path:
            return body
        answer = json.loads(body)
        signature = forger.sign("1;/nix/store/x;sha256:x;1;").partition(":")[2].rstrip("=")
        sources = answer["sources"]
        sources["signatures"] = signature * (len(sources["signatures"]) // len(signature))
        return json.dumps(answer).encode()

    liar.lie = lie
    _assert_refused(host, _fetch(acme, host), releases.shell, releases.new, refs=("store-refused",))
