"""A publisher that names another organization's private path in its own NAR gets nothing by it, and learns
nothing: neither the path, nor whether anybody has it.
"""

from pathlib import Path

import pytest

from piste.nix.hashes import Hash, sha256_of
from piste.nix.narinfo import parse_narinfo
from piste.nix.signature import PublicKey
from piste.nix.store_path import StorePath
from tests.attacks.answers import (
    Seen,
    declare,
    finish,
    looks_at,
    publication,
    put_nar,
    put_narinfo,
    seen,
    upload,
    words_of,
)
from tests.hub.process import Hub
from tests.running.closures import Member, file_nar, frame, make_source, member, new_path
from tests.running.command import Person
from tests.running.nix import build, configured, content, copy_from, copy_to, has, plant, substitute
from tests.running.tenants import Tenant

_SECRET = """secret = run "the-secret" "echo acme knows how > $out";"""


@pytest.fixture(scope="module")
def secret(acme: Tenant, tmp_path_factory: pytest.TempPathFactory) -> StorePath:
    """A path that acme alone has: built and pushed with Nix."""
    person = Person(tmp_path_factory.mktemp("acme"))
    built = build(person, _SECRET, "secret")
    pushing = configured(person, acme.hub.url, acme.token, [])
    assert copy_to(pushing, acme.cache_url, built).code == 0
    return StorePath.parse(built)


@pytest.fixture(scope="module")
def unknown() -> StorePath:
    """A path that nobody has."""
    return new_path("the-secret", "nobody has this")


def _nar_of(acme: Tenant, path: StorePath) -> tuple[Hash, int]:
    """Hash and size of a path of acme's, as somebody may have learnt them elsewhere."""
    answer = acme.hub.request("GET", f"{acme.cache_path}/{path.hash_part}.narinfo", token=acme.token)
    info = parse_narinfo(answer.body.decode()).info
    return info.nar_hash, info.nar_size


def test_those_who_may_have_it_get_the_path_with_nix(acme: Tenant, secret: StorePath, tmp_path: Path) -> None:
    host = configured(Person(tmp_path), acme.hub.url, acme.token, [acme.key])
    assert substitute(host, acme.cache_url, str(secret)).code == 0
    assert content(host, str(secret)) == "acme knows how\n"


def _mention(rival: Tenant, target: StorePath, version: str) -> list[Seen]:
    """A publication whose only path refers to `target`: every answer to it."""
    bait = member("bait", "a mention", b"bait", [target])
    words = [*words_of(bait.path, bait.nar_hash), *words_of(target)]
    address = publication(rival, version)
    return [
        seen(declare(rival, address, [bait], bait), *words),
        seen(upload(rival, address, bait.frame), *words, str(len(bait.frame))),
        seen(finish(rival, address, make_source("bait")), *words),
    ]


def test_a_release_that_mentions_the_path_is_refused_and_answered_like_one_that_mentions_nothing_real(
    rival: Tenant, secret: StorePath, unknown: StorePath
) -> None:
    real = _mention(rival, secret, "1.0.0")
    assert real == _mention(rival, unknown, "1.0.1")
    status, body = real[-1]
    assert (status, "output-incomplete" in body) == (409, True), real


def test_declaring_the_path_with_its_true_hash_does_not_spare_the_upload_and_tells_nothing(
    acme: Tenant, rival: Tenant, secret: StorePath, unknown: StorePath
) -> None:
    nar_hash, nar_size = _nar_of(acme, secret)
    answers = []
    for number, (path, content_hash) in enumerate([(secret, nar_hash), (unknown, sha256_of(b"none"))]):
        bait = member("bait", "a declaration", b"bait", [path])
        address = publication(rival, f"1.1.{number}")
        declared = [
            {"path": path.base_name, "nar_hash": content_hash.nix32(), "nar_size": nar_size, "references": []}
        ]
        words = [*words_of(bait.path, bait.nar_hash), *words_of(path, content_hash)]
        first = rival.hub.request(
            "POST", f"{address}/declarations", token=rival.token, json={"paths": declared}
        )
        guess = file_nar(b"not the secret")[: nar_size - 1]
        answers.append(
            [
                seen(first, *words),
                seen(declare(rival, address, [bait], bait), *words),
                seen(upload(rival, address, bait.frame), *words, str(len(bait.frame))),
                seen(upload(rival, address, frame(content_hash, guess)), *words),
                seen(finish(rival, address, make_source("bait")), *words),
            ]
        )
        assert path.base_name in first.json()["missing"]
    assert answers[0] == answers[1]
    assert [status for status, _ in answers[0][-2:]] == [422, 409]


def test_a_stock_client_that_pushes_a_mention_is_refused_and_answered_like_for_nothing_real(
    rival: Tenant, secret: StorePath, unknown: StorePath
) -> None:
    answers = []
    for target in (secret, unknown):
        bait = member("bait", "a push", b"bait", [target])
        words = [*words_of(bait.path, bait.nar_hash), *words_of(target)]
        answers.append([seen(put_nar(rival, bait), *words), seen(put_narinfo(rival, bait), *words)])
    assert answers[0] == answers[1]
    assert answers[0][-1][0] == 422


def test_nix_that_holds_a_planted_stand_in_can_push_the_bait_with_nothing_but_the_stand_in(
    acme: Tenant, rival: Tenant, secret: StorePath, tmp_path: Path
) -> None:
    attacker = configured(Person(tmp_path), rival.hub.url, rival.token, [acme.key, rival.key])
    stand_in = Member(secret, file_nar(b"a guess"), ())
    bait = member("bait", "with real Nix", b"bait", [secret])
    plant(attacker, stand_in)
    plant(attacker, bait)
    alone = attacker.run(
        "nix", "copy", "--no-recursive", "--from", attacker.store, "--to", rival.cache_url, str(bait.path)
    )
    assert alone.code != 0
    assert looks_at(rival, bait.path)[0][0] == 404
    # With its own stand-in it may: that is the rival's content, in the rival's project, with the rival's key.
    assert copy_to(attacker, rival.cache_url, str(bait.path)).code == 0
    victim = configured(Person(tmp_path / "victim"), rival.hub.url, rival.token, [acme.key])
    assert copy_from(victim, rival.cache_url, str(bait.path)).code != 0
    reader = configured(Person(tmp_path / "reader"), rival.hub.url, rival.token, [rival.key])
    assert copy_from(reader, rival.cache_url, str(bait.path)).code == 0
    assert content(reader, str(secret)) == "a guess"


@pytest.mark.parametrize("address", ["own cache", "root", "the other's cache"])
def test_mention_gives_the_rivals_nix_the_path_nowhere(
    acme: Tenant, rival: Tenant, tmp_path: Path, address: str, hub: Hub
) -> None:
    # Another path than in the other tests: the rival's project has its own content under that one by now.
    hidden = _pushed(acme, tmp_path / "acme", f"hidden-{address.replace(' ', '-').replace(chr(39), '')}")
    nar_hash, _ = _nar_of(acme, hidden)
    places = {"own cache": rival.cache_url, "root": hub.url, "the other's cache": acme.cache_url}
    keys: list[PublicKey] = [acme.key, rival.key]
    attacker = configured(Person(tmp_path / "rival"), hub.url, rival.token, keys)
    assert copy_from(attacker, places[address], str(hidden)).code != 0
    assert substitute(attacker, places[address], str(hidden)).code != 0
    assert not has(attacker, str(hidden))
    nothing = new_path("nothing", "at all")
    assert looks_at(rival, hidden, nar_hash) == looks_at(rival, nothing, sha256_of(b"nothing at all"))


def _pushed(tenant: Tenant, folder: Path, name: str) -> StorePath:
    person = Person(folder)
    built = build(person, f"""it = run "{name}" "echo {name} > $out";""", "it")
    pushing = configured(person, tenant.hub.url, tenant.token, [])
    assert copy_to(pushing, tenant.cache_url, built).code == 0
    return StorePath.parse(built)
