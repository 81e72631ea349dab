"""An organization that keeps its keys to itself: its publishers sign, and the hub can't."""

import itertools
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from piste.nix.narinfo import PathInfo, parse_narinfo
from piste.nix.signature import PublicKey, SecretKey
from piste.publisher.signing import described
from piste.wire.statement import decode_statement
from tests.hub.process import Answer, Hub
from tests.hub.publishing import Acme, Filling, chain
from tests.hub.test_cache_pushing import narinfo, put_nar, put_narinfo
from tests.running.closures import ATTRIBUTE, Member, member

_NUMBERS = itertools.count(1)
OTHER = "packages.x86_64-linux.other"


@dataclass
class Signing:
    """An organization with a key that its publisher holds. `alone`: the hub's own is revoked."""

    acme: Acme
    key: SecretKey = field(default_factory=lambda: SecretKey.generate(f"held-{next(_NUMBERS)}"))

    @property
    def keys(self) -> str:
        return f"/api/v1/organizations/{self.acme.organization}/keys"

    @property
    def hub_key(self) -> str:
        return f"{self.acme.organization.lower()}-1"

    def add(self, key: SecretKey | None = None) -> Answer:
        public = str((key or self.key).public)
        return self.acme.ask("POST", self.keys, token=self.acme.hub.admin, json={"public_key": public})

    def revoke(self, name: str, signatures: str | None = None) -> Answer:
        query = f"?signatures={signatures}" if signatures else ""
        return self.acme.ask("DELETE", f"{self.keys}/{name}{query}", token=self.acme.hub.admin)

    def listed(self) -> list[tuple[str, str]]:
        found = self.acme.ask("GET", self.keys).json()
        return [(each["public_key"].partition(":")[0], each["held_by"]) for each in found]

    def open(
        self,
        version: str,
        closure: Sequence[Member],
        outputs: dict[str, Member] | None = None,
        *,
        keys: Sequence[SecretKey] | None = None,
        **fields: Any,
    ) -> Filling:
        """A publication that lacks nothing but its end."""
        filling = self.acme.open(version, **fields)
        answer = self.declare(filling, closure, outputs or {ATTRIBUTE: closure[-1]}, keys=keys)
        assert answer.status == 200, answer.body
        filling.missing = answer.json()["missing"]
        filling.upload_missing(closure)
        filling.source()
        return filling

    def declare(
        self,
        filling: Filling,
        closure: Sequence[Member],
        outputs: dict[str, Member],
        *,
        keys: Sequence[SecretKey] | None = None,
        required: bool = True,
    ) -> Answer:
        signers = [self.key] if keys is None else keys
        message = {
            "paths": [msgspec.to_builtins(described(info_of(each), signers)) for each in closure],
            "outputs": [
                {"attribute": name, "store_path": str(each.path), "required": required}
                for name, each in outputs.items()
            ],
        }
        return self.acme.ask("POST", f"{filling.place}/declarations", json=message)

    def finish(
        self, filling: Filling, texts: Sequence[str] = (), keys: Sequence[SecretKey] | None = None
    ) -> Answer:
        signers = [self.key] if keys is None else keys
        message = {
            "signing_keys": [key.name for key in signers],
            "statements": [
                {"text": text, "signatures": [key.sign(text) for key in signers]} for text in texts
            ],
        }
        return self.acme.ask("POST", f"{filling.place}/finish", json=message)

    def publish(self, version: str, closure: Sequence[Member], **more: Any) -> dict[str, Any]:
        keys = more.get("keys")
        filling = self.open(version, closure, **more)
        asked = self.finish(filling, keys=keys)
        assert asked.status == 202, asked.body
        done = self.finish(filling, asked.json()["statements"], keys=keys)
        assert done.status == 200, done.body
        published: dict[str, Any] = done.json()
        return published

    def statement_signers(self, requirement: str, attribute: str = ATTRIBUTE) -> list[str]:
        """Names of the keys whose signatures are on a statement; those that we know must hold."""
        answer = self.acme.resolve(requirement, attribute).json()
        for signature in answer["statement_signatures"]:
            if signature.startswith(self.key.name + ":"):
                assert self.key.public.verify(answer["statement"], signature)
        return [signature.partition(":")[0] for signature in answer["statement_signatures"]]

    def path_signers(self, path: Member) -> list[str]:
        answer = self.acme.narinfo(path)
        assert answer.status == 200, answer.body
        info = parse_narinfo(answer.body.decode()).info
        for signature in info.signatures:
            if signature.startswith(self.key.name + ":"):
                assert self.key.public.verify(info.fingerprint(), signature)
        return [signature.partition(":")[0] for signature in info.signatures]


def info_of(path: Member) -> PathInfo:
    return PathInfo(path.path, path.nar_hash, len(path.nar), path.references)


@pytest.fixture
def both(shared_hub: Hub) -> Signing:
    """In between: the hub still has its key, and the publisher has one already."""
    made = Signing(Acme(shared_hub))
    assert made.add().status == 201
    return made


@pytest.fixture
def alone(both: Signing) -> Signing:
    assert both.revoke(both.hub_key).status == 200
    return both


def test_a_key_is_registered_by_its_public_half_and_hosts_are_told_of_it(shared_hub: Hub) -> None:
    signing = Signing(Acme(shared_hub))
    acme = signing.acme
    assert signing.listed() == [(signing.hub_key, "hub")]
    made = signing.add().json()
    assert (made["public_key"], made["held_by"]) == (str(signing.key.public), "publisher")
    assert signing.listed() == [(signing.key.name, "publisher"), (signing.hub_key, "hub")]
    printed = shared_hub.command("public-key", "--org", acme.organization).stdout.splitlines()
    assert str(signing.key.public) == printed[0]
    assert signing.revoke(signing.hub_key).json()["signing"] == [str(signing.key.public)]
    printed = shared_hub.command("public-key", "--org", acme.organization).stdout.splitlines()
    assert printed == [str(signing.key.public)]
    assert shared_hub.as_admin("GET", f"/api/v1/organizations/{acme.organization}")["public_keys"] == printed
    assert signing.listed() == [(signing.key.name, "publisher"), (signing.hub_key, "nobody")]


def test_only_an_admin_changes_keys_and_a_member_sees_them(both: Signing) -> None:
    acme = both.acme
    admin = acme.hub.make_member(acme.organization, f"ada-of-{acme.organization}", "admin")
    assert acme.ask("GET", both.keys).status == 200
    another = {"public_key": str(SecretKey.generate("another").public)}
    assert acme.ask("POST", both.keys, json=another).ref == "forbidden"
    assert acme.ask("DELETE", f"{both.keys}/{both.hub_key}").ref == "forbidden"
    assert acme.ask("POST", both.keys, json=another, token=admin).status == 201
    stranger = acme.hub.make_member(Acme(acme.hub).organization, f"stranger-to-{acme.organization}")
    assert acme.ask("GET", both.keys, token=stranger).ref == "not-found"
    assert acme.ask("POST", both.keys, json=another, token=stranger).ref == "not-found"


def test_a_secret_key_is_refused_and_not_repeated(both: Signing) -> None:
    acme, secret = both.acme, SecretKey.generate("mistaken")
    text = secret.format_secret()
    answer = acme.ask("POST", both.keys, json={"public_key": text}, token=acme.hub.admin)
    assert (answer.status, answer.ref) == (400, "bad-request")
    assert text.partition(":")[2] not in answer.body.decode()
    assert text.partition(":")[2] not in "\n".join(acme.hub.lines)


@pytest.mark.parametrize(
    "text", ["", "name", "a:b", "with space:" + "A" * 43 + "=", "slash/ed:" + "A" * 43 + "="]
)
def test_what_is_no_key_is_refused(both: Signing, text: str) -> None:
    answer = both.acme.ask("POST", both.keys, json={"public_key": text}, token=both.acme.hub.admin)
    assert (answer.status, answer.ref) in ((400, "bad-request"), (400, "bad-name"))


def test_a_key_comes_once_and_never_again_once_it_was_revoked(both: Signing) -> None:
    assert both.add().ref == "already-exists"
    same_name = SecretKey.generate(both.key.name)
    assert both.add(same_name).ref == "already-exists"
    assert both.revoke(both.key.name).status == 200
    assert both.add().ref == "already-exists"
    assert both.add(SecretKey("another-name", both.key.seed)).ref == "already-exists"


def test_in_between_the_hub_signs_beside_the_publisher(both: Signing) -> None:
    closure = chain(f"between-{next(_NUMBERS)}")
    opened = both.acme.open("0.0.1").opened
    assert (opened["publisher_keys"], opened["hub_signs"]) == ([str(both.key.public)], True)
    both.publish("1.0.0", closure)
    assert both.statement_signers("=1.0.0") == [both.hub_key, both.key.name]
    assert all(both.path_signers(path) == [both.hub_key, both.key.name] for path in closure)
    # Publishers that have no key yet go on as before.
    both.acme.publish("1.0.1", closure)
    assert both.statement_signers("=1.0.1") == [both.hub_key]


def test_without_the_hubs_key_nothing_is_visible_before_the_publisher_has_signed(alone: Signing) -> None:
    closure = chain(f"alone-{next(_NUMBERS)}")
    opened = alone.acme.open("0.0.1").opened
    assert (opened["publisher_keys"], opened["hub_signs"]) == ([str(alone.key.public)], False)
    filling = alone.open("1.0.0", closure)
    assert filling.finish().ref == "signing-key-missing"
    asked = alone.finish(filling)
    assert asked.status == 202
    [text] = asked.json()["statements"]
    said = decode_statement(text)
    assert (said.version, said.store_path) == ("1.0.0", str(closure[-1].path))
    assert said.sequence == asked.json()["sequence"]
    assert alone.acme.resolve("=1.0.0").status == 404
    assert alone.acme.narinfo(closure[0]).status == 404
    assert alone.finish(filling).json() == asked.json(), "asked again, the same"
    done = alone.finish(filling, [text])
    assert done.status == 200, done.body
    assert done.json()["created"]
    assert alone.finish(filling, [text]).json() == done.json() | {"created": False}
    assert alone.statement_signers("=1.0.0") == [alone.key.name]
    assert alone.acme.resolve("=1.0.0").json()["statement"] == text
    assert all(alone.path_signers(path) == [alone.key.name] for path in closure)


def test_a_statement_counts_only_with_a_signature_that_holds(alone: Signing) -> None:
    filling = alone.open("1.0.0", chain(f"forged-{next(_NUMBERS)}"))
    [text] = alone.finish(filling).json()["statements"]
    forger = SecretKey.generate(alone.key.name)
    forged: list[list[str]] = [[], [forger.sign(text)], [alone.key.sign(text + " ")], ["nonsense"]]
    for signatures in forged:
        message = {
            "signing_keys": [alone.key.name],
            "statements": [{"text": text, "signatures": signatures}],
        }
        assert alone.acme.ask("POST", f"{filling.place}/finish", json=message).ref == "bad-signature"
    other = text.replace('"1.0.0"', '"9.0.0"')
    assert alone.finish(filling, [other]).status == 202, "another text is none of those that were asked for"
    unknown = SecretKey.generate("unknown")
    assert alone.finish(filling, [text], keys=[unknown]).ref == "signing-key-unknown"
    assert alone.acme.resolve("=1.0.0").status == 404


def test_a_path_that_its_publisher_did_not_sign_is_refused(alone: Signing) -> None:
    closure = chain(f"unsigned-{next(_NUMBERS)}")
    for keys in ([], [SecretKey.generate(alone.key.name)], [SecretKey.generate(alone.hub_key)]):
        filling = alone.open("1.0.0", closure, keys=keys)
        answer = alone.finish(filling)
        assert (answer.ref, "--signing-key-file" in answer.json()["error"]["hint"]) == ("bad-path-info", True)


def test_numbers_grow_though_a_publication_is_abandoned(alone: Signing) -> None:
    closure = chain(f"numbers-{next(_NUMBERS)}")
    left = alone.open("1.0.0", closure)
    first = alone.finish(left).json()["sequence"]
    assert alone.acme.ask("DELETE", left.place).status == 204
    second = alone.open("1.0.1", closure)
    assert alone.finish(second).json()["sequence"] == first + 1


def test_a_release_that_was_overtaken_gets_a_later_number(alone: Signing) -> None:
    closure = chain(f"overtaken-{next(_NUMBERS)}")
    slow = alone.open("1.0.0", closure)
    asked = alone.finish(slow).json()
    alone.publish("2.0.0", closure)
    again = alone.finish(slow, asked["statements"])
    assert again.status == 202, again.body
    assert again.json()["sequence"] == asked["sequence"] + 2
    done = alone.finish(slow, again.json()["statements"])
    assert done.status == 200, done.body
    statement = decode_statement(alone.acme.resolve("=1.0.0").json()["statement"])
    assert statement.sequence == again.json()["sequence"]


def test_what_was_only_recorded_waits_for_a_signature(alone: Signing) -> None:
    closure, later = chain(f"now-{next(_NUMBERS)}"), member("later", next(_NUMBERS))
    filling = alone.open("1.0.0", closure)
    assert alone.declare(filling, [], {OTHER: later}, required=False).status == 200
    texts = alone.finish(filling).json()["statements"]
    assert len(texts) == 1
    assert alone.finish(filling, texts).status == 200
    # Its path comes by another way; the hub can't vouch for it.
    url = put_nar(alone.acme, later)[1]
    signed = alone.key.sign(info_of(later).fingerprint())
    assert put_narinfo(alone.acme, later, narinfo(later, url)).ref == "bad-path-info"
    assert put_narinfo(alone.acme, later, narinfo(later, url) + f"Sig: {signed}\n").status < 300
    waiting = alone.acme.resolve("=1.0.0", OTHER)
    assert (waiting.ref, waiting.json()["error"]["context"]["missing"]) == ("output-not-available", "0")
    assert alone.publish("1.0.0", [*closure, later], outputs={ATTRIBUTE: closure[-1], OTHER: later}) == {
        **alone.finish(filling).json(),
        "outputs": {ATTRIBUTE: str(closure[-1].path), OTHER: str(later.path)},
    }
    assert alone.statement_signers("=1.0.0", OTHER) == [alone.key.name]


def test_a_version_that_is_published_again_gets_the_further_keys_signatures(shared_hub: Hub) -> None:
    signing = Signing(Acme(shared_hub))
    closure = chain(f"again-{next(_NUMBERS)}")
    signing.acme.publish("1.0.0", closure)
    assert signing.add().status == 201
    refused = signing.revoke(signing.hub_key)
    assert (refused.status, refused.ref) == (409, "key-needed")
    assert refused.json()["error"]["context"] == {"statements": "1", "paths": "3"}
    before = signing.acme.resolve("=1.0.0").json()["statement"]
    assert not signing.publish("1.0.0", closure)["created"]
    assert signing.acme.resolve("=1.0.0").json()["statement"] == before
    assert signing.statement_signers("=1.0.0") == [signing.hub_key, signing.key.name]
    assert signing.path_signers(closure[1]) == [signing.hub_key, signing.key.name]
    done = signing.revoke(signing.hub_key)
    assert (done.status, done.json()["paths"], done.json()["statements"]) == (200, 3, 1)
    assert signing.statement_signers("=1.0.0") == [signing.key.name]
    assert signing.path_signers(closure[1]) == [signing.key.name]
    # Nothing is lacking any more, so nothing is asked.
    filling = signing.open("1.0.0", closure)
    assert signing.finish(filling).status == 200


@pytest.mark.parametrize(("fate", "left"), [("keep", 1), ("drop", 0)])
def test_what_a_key_alone_has_signed_is_kept_or_dropped(shared_hub: Hub, fate: str, left: int) -> None:
    signing = Signing(Acme(shared_hub))
    closure = chain(f"fate-{next(_NUMBERS)}")
    signing.acme.publish("1.0.0", closure)
    signing.add()
    assert signing.revoke(signing.hub_key, "burn").ref == "bad-request"
    assert signing.revoke(signing.hub_key, fate).status == 200
    assert signing.statement_signers("=1.0.0") == [signing.hub_key] * left
    assert signing.path_signers(closure[0]) == [signing.hub_key] * left
    assert signing.revoke(signing.hub_key, "drop").status == 200, "later is possible too"
    assert signing.statement_signers("=1.0.0") == []


def test_the_last_key_stays(alone: Signing) -> None:
    assert alone.revoke(alone.key.name, "drop").ref == "key-needed"
    assert alone.revoke("nobody").ref == "not-found"


def test_the_hubs_secret_is_gone_and_the_operator_makes_no_other(hub: Hub) -> None:
    signing = Signing(Acme(hub))
    signing.add()
    assert signing.revoke(signing.hub_key).status == 200
    for options in ((), ("--retire", signing.key.name)):
        done = hub.command("keys", "rotate", "--org", signing.acme.organization, *options, check=False)
        assert (done.returncode, "publisher-holds-keys" in done.stderr) == (1, True)
    if hub.database is None:
        with sqlite3.connect(hub.data / "piste.sqlite") as database:
            rows = database.execute("SELECT name FROM signing_key WHERE secret IS NOT NULL").fetchall()
        assert rows == []


def test_a_revoked_key_signs_nothing_more(alone: Signing) -> None:
    old, new = alone.key, SecretKey.generate(f"next-{next(_NUMBERS)}")
    closure = chain(f"revoked-{next(_NUMBERS)}")
    alone.publish("1.0.0", closure)
    begun = alone.open("1.1.0", closure)
    texts = alone.finish(begun).json()["statements"]
    assert alone.add(new).status == 201
    alone.publish("1.0.0", closure, keys=[old, new])
    assert alone.revoke(old.name).status == 200
    assert alone.statement_signers("=1.0.0") == [new.name]
    assert alone.finish(begun, texts).ref == "signing-key-unknown"
    filling = alone.open("1.2.0", closure, keys=[old])
    assert alone.finish(filling, keys=[old]).ref == "signing-key-unknown"
    alone.publish("1.2.0", [*closure, top := member("top", next(_NUMBERS))], keys=[new])
    assert alone.path_signers(top) == [new.name]


def test_a_revoked_keys_signature_on_a_path_is_not_passed_on(both: Signing) -> None:
    path = member("app", next(_NUMBERS))
    assert both.revoke(both.key.name).status == 200
    filling = both.open("1.0.0", [path], keys=[both.key])
    assert filling.finish().status == 200
    assert both.path_signers(path) == [both.hub_key]


def test_the_paths_of_a_publication_are_shown_to_its_publishers_alone(alone: Signing) -> None:
    closure = chain(f"shown-{next(_NUMBERS)}")
    filling = alone.open("1.0.0", closure)
    found = alone.acme.ask("GET", f"{filling.place}/paths").json()
    assert {each["path"] for each in found} == {each.path.base_name for each in closure}
    key: PublicKey = alone.key.public
    by_name = {each.path.base_name: each for each in closure}
    assert all(
        key.verify(info_of(by_name[each["path"]]).fingerprint(), each["signatures"][0]) for each in found
    )
    assert alone.acme.ask("GET", f"{filling.place}/paths", token=None).status in (401, 404)
