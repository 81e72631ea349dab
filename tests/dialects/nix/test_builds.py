"""What a cache tells of builds: build traces of both forms, logs at the root, debug information."""

import json
import os
from hashlib import sha256

import pytest

from piste.nix.realisation import DrvOutput, Realisation, parse_realisation
from piste.nix.signature import PublicKey, SecretKey
from tests.hub.conftest import shared_hub
from tests.hub.process import Hub
from tests.hub.publishing import Acme, chain
from tests.running.closures import Member, new_path, tree_nar

__all__ = ["shared_hub"]


@pytest.fixture
def acme(shared_hub: Hub) -> Acme:
    return Acme(shared_hub)


@pytest.fixture
def path(acme: Acme) -> Member:
    made = chain("app", content=os.urandom(20))
    acme.publish("1.0.0", made)
    return made[-1]


def key_of(acme: Acme) -> PublicKey:
    found = acme.hub.as_admin("GET", f"/api/v1/organizations/{acme.organization}")
    return PublicKey.parse(found["public_keys"][0])


def places(path: Member) -> list[tuple[str, DrvOutput]]:
    """The address and the name of an entry, in the form of Nix up to 2.34 and in the one since."""
    old = DrvOutput("sha256:" + sha256(path.nar).hexdigest(), "out")
    new = DrvOutput(f"{path.path.hash_part}-app.drv", "out")
    return [(f"realisations/{old}.doi", old), (f"build-trace-v2/{new.drv}/out.doi", new)]


def entry(about: DrvOutput, path: Member, **more: object) -> bytes:
    said: dict[str, object] = {"outPath": path.path.base_name, "signatures": [], **more}
    if about.is_hash:
        said |= {"id": str(about), "dependentRealisations": more.get("dependentRealisations", {})}
    return json.dumps(said).encode()


@pytest.mark.parametrize("form", [0, 1])
def test_a_build_trace_is_kept_and_signed_by_the_organization(acme: Acme, path: Member, form: int) -> None:
    place, about = places(path)[form]
    assert acme.ask("GET", f"{acme.cache}/{place}").status == 404
    for _ in range(2):
        assert acme.ask("PUT", f"{acme.cache}/{place}", body=entry(about, path)).status == 201
    for prefix in ("", acme.cache):
        for written in (place, place.replace("!", "%21")):
            got = acme.ask("GET", f"{prefix}/{written}")
            assert (got.status, got.headers["content-type"]) == (200, "application/json")
            found = parse_realisation(got.body.decode(), about)
            assert found.out_path == path.path
            assert key_of(acme).verify(found.fingerprint(), found.signatures[0])
        assert acme.ask("HEAD", f"{prefix}/{place}").status == 200
    raw = acme.ask("GET", f"{acme.cache}/{place}").json()
    if about.is_hash:
        assert list(raw) == ["dependentRealisations", "id", "outPath", "signatures"]
        assert all(isinstance(each, str) for each in raw["signatures"])
    else:
        assert list(raw) == ["outPath", "signatures"]
        assert list(raw["signatures"][0]) == ["keyName", "sig"]


@pytest.mark.parametrize("form", [0, 1])
def test_the_signature_of_another_is_passed_on_and_a_false_one_in_our_name_is_not(
    acme: Acme, path: Member, form: int
) -> None:
    place, about = places(path)[form]
    realisation = Realisation(about, path.path)
    foreign = SecretKey.generate("somebody-1").sign(realisation.fingerprint())
    false = SecretKey.generate(key_of(acme).name).sign(realisation.fingerprint())
    given: list[object] = [foreign, false]
    if not about.is_hash:
        given = [dict(zip(("keyName", "sig"), each.split(":"), strict=True)) for each in (foreign, false)]
    body = entry(about, path, signatures=given)
    assert acme.ask("PUT", f"{acme.cache}/{place}", body=body).status == 201
    found = parse_realisation(acme.ask("GET", f"{acme.cache}/{place}").body.decode(), about)
    assert foreign in found.signatures
    assert false not in found.signatures


def test_an_organization_says_one_thing_of_an_output(acme: Acme, path: Member) -> None:
    other = chain("other", content=os.urandom(20))
    acme.publish("1.1.0", other)
    for place, about in places(path):
        assert acme.ask("PUT", f"{acme.cache}/{place}", body=entry(about, path)).status == 201
        assert acme.ask("PUT", f"{acme.cache}/{place}", body=entry(about, other[-1])).ref == "path-conflict"
    acme.add_project("second")
    acme.publish("1.0.0", other, project="second")
    place, about = places(path)[0]
    second = acme.cache.replace("/web", "/second")
    assert acme.ask("PUT", f"{second}/{place}", body=entry(about, other[-1])).ref == "path-conflict"
    # Another organization has a word of its own; together at the root they say nothing.
    stranger = Acme(acme.hub)
    stranger.publish("1.0.0", other)
    assert stranger.ask("PUT", f"{stranger.cache}/{place}", body=entry(about, other[-1])).status == 201
    for who in (acme, stranger):
        who.hub.as_admin("PATCH", who.base, json={"visibility": "public"})
        assert acme.hub.request("GET", f"{who.cache}/{place}").status == 200
    assert acme.hub.request("GET", f"/{place}").status == 404


@pytest.mark.parametrize("form", [0, 1])
def test_what_is_no_build_trace_is_refused(acme: Acme, path: Member, form: int) -> None:
    place, about = places(path)[form]
    unknown = chain("unknown", content=b"unknown")[-1]
    for body in (
        b"",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        json.dumps({"id": str(about)}).encode(),
        entry(about, path, outPath="x"),
        entry(about, path, outPath=None),
        entry(about, path, signatures="x"),
        entry(about, path, signatures=["x"]),
        entry(about, path, signatures=[7]),
        entry(about, path, signatures=[{"keyName": "a"}]),
        entry(about, unknown),
    ):
        assert acme.ask("PUT", f"{acme.cache}/{place}", body=body).ref == "bad-path-info", body[:80]
    assert acme.ask("GET", f"{acme.cache}/{place}").status == 404


def test_the_older_form_is_held_to_its_name_and_to_what_it_was_built_from(acme: Acme, path: Member) -> None:
    place, about = places(path)[0]
    other = str(about).replace("!out", "!dev")
    for body in (
        entry(about, path, dependentRealisations=[]),
        entry(about, path, dependentRealisations={"x": path.path.base_name}),
        entry(about, path, dependentRealisations={other: "x"}),
        json.dumps({"id": other, "outPath": path.path.base_name}).encode(),
    ):
        assert acme.ask("PUT", f"{acme.cache}/{place}", body=body).ref == "bad-path-info", body
    given = {other: path.path.base_name}
    assert (
        acme.ask("PUT", f"{acme.cache}/{place}", body=entry(about, path, dependentRealisations=given)).status
        == 201
    )
    found = parse_realisation(acme.ask("GET", f"{acme.cache}/{place}").body.decode(), about)
    assert found.dependents == given
    assert key_of(acme).verify(found.fingerprint(), found.signatures[0])


@pytest.mark.parametrize(
    "name",
    [
        "realisations/x.doi",
        "realisations/sha256:00!out.doi",
        "realisations/..%2Fx!out.doi",
        f"realisations/sha256:{'0' * 64}!..%2Fx.doi",
        "build-trace-v2/x/out.doi",
        f"build-trace-v2/{'0' * 32}-x/out.doi",
        f"build-trace-v2/sha256:{'0' * 64}/out.doi",
    ],
)
def test_what_names_no_output_is_missing(acme: Acme, path: Member, name: str) -> None:
    for prefix in ("", acme.cache):
        assert acme.ask("GET", f"{prefix}/{name}").status == 404
    assert acme.ask("PUT", f"{acme.cache}/{name}", body=b"{}").status in (400, 404)


def test_build_traces_and_debug_information_are_not_for_closure_tokens(acme: Acme, path: Member) -> None:
    place, about = places(path)[0]
    acme.ask("PUT", f"{acme.cache}/{place}", body=entry(about, path))
    token = acme.resolve("1").json()["token"]
    for prefix in ("", acme.cache):
        assert acme.ask("GET", f"{prefix}/{place}", token=token).status in (403, 404)
        assert acme.ask("GET", f"{prefix}/debuginfo/{'0' * 40}", token=token).status in (403, 404)


def test_a_log_is_told_at_the_root_too(acme: Acme, path: Member) -> None:
    name = f"log/{path.path.hash_part}-app.drv"
    assert acme.ask("PUT", f"{acme.cache}/{name}", body=b"built\n").status == 201
    assert acme.ask("GET", f"/{name}").body == b"built\n"
    assert acme.hub.request("GET", f"/{name}").status == 404
    assert Acme(acme.hub).ask("GET", f"/{name}").status == 404
    acme.hub.as_admin("PATCH", acme.base, json={"visibility": "unlisted"})
    assert acme.hub.request("GET", f"/{name}").status == 404
    acme.hub.as_admin("PATCH", acme.base, json={"visibility": "public"})
    assert acme.hub.request("GET", f"/{name}").body == b"built\n"


def test_debug_information_is_found_by_its_build_id(acme: Acme) -> None:
    build_id = sha256(os.urandom(9)).hexdigest()[:40]
    member = f"lib/debug/.build-id/{build_id[:2]}/{build_id[2:]}.debug"
    files = {member: b"DWARF", "lib/debug/.build-id/00/short.debug": b"", "share/readme": b"x"}
    path = Member(new_path("app-debug", build_id), tree_nar(files), ())
    acme.publish("1.0.0", [path])
    for prefix in ("", acme.cache):
        for name in (build_id, f"{build_id}.debug"):
            got = acme.ask("GET", f"{prefix}/debuginfo/{name}")
            assert got.json() == {"archive": f"../nar/{path.nar_hash.base32}.nar.zst", "member": member}
        archive = f"{prefix}/debuginfo/../nar".replace("/debuginfo/..", "")
        assert acme.ask("GET", f"{archive}/{path.nar_hash.base32}.nar.zst").status == 200
        for other in ("0" * 40, "x", "..%2Fx", build_id[:-1], build_id.upper()):
            assert acme.ask("GET", f"{prefix}/debuginfo/{other}").status == 404
    assert acme.hub.request("GET", f"/debuginfo/{build_id}").status == 404
    assert Acme(acme.hub).ask("GET", f"/debuginfo/{build_id}").status == 404
    # What stock clients say of it is taken and not needed.
    assert acme.ask("PUT", f"{acme.cache}/debuginfo/{build_id}.debug", body=b"{}").status == 200
