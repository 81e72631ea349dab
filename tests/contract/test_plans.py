"""What hubs say in a plan, and the deltas that they have made, is read by hosts for ever.

A test here that fails means that hosts and hubs of different age would misunderstand each other. The answer
is a new format with a new name, or a field more, never new golden files.
"""

import msgspec

from piste.lib.delta import apply_delta
from piste.wire.deltas import DeltaOffer, Deltas, delta_address, rename, renames
from piste.wire.manifest import Manifest, decode_manifest, encode_manifest, manifest_digest
from piste.wire.plan import (
    FORMAT,
    PlanAnswer,
    pack_manifest,
    pack_paths,
    pack_sources,
    unpack_manifest,
    unpack_paths,
)
from piste.wire.resolution import NarSource, Resolution
from piste.wire.runs import runs_of
from piste.wire.sources import unpack_sources
from tests.contract.test_formats import golden

OLD_HASH, NEW_HASH = b"b" * 32, b"q" * 32
BASE = b"text before /nix/store/" + OLD_HASH + b"-bash and text behind" * 40
TARGET = BASE.replace(OLD_HASH, NEW_HASH) + b" and something new"


def manifests() -> tuple[Manifest, Manifest]:
    """The one of the other golden file, and one in which `bash`, and so all above it, has another hash."""
    data = golden("manifest-1.json")
    changed = data.replace(OLD_HASH, NEW_HASH).replace(b"a" * 32, b"r" * 32)
    old = decode_manifest(data, manifest_digest(data))
    return old, decode_manifest(changed, manifest_digest(changed))


def answer() -> PlanAnswer:
    old, new = manifests()
    base, digest = (manifest_digest(encode_manifest(each)) for each in (old, new))
    resolution = Resolution(
        "acme/web/1#a", "acme", "web", "1", "1.1.0", "a", f"/nix/store/{new.root.path}", None, "r", digest,
        "{}", [], "https://hub.example/cache/acme/web", "piste_closure_x", 1,
    )  # fmt: skip
    sources = [
        NarSource("", "zstd", [f"acme-1:{'A' * 86}==", f"acme-2:{'B' * 86}=="], 1000),
        NarSource("https://cache.example/nar/x.nar.xz", "xz", [f"cache-1:{'C' * 86}==", "odd:D"], None),
    ]
    offer = DeltaOffer(0, 77, [1, 3], [1, 3], renamed=True)
    return PlanAnswer(
        FORMAT,
        resolution,
        pack_manifest(new, (base, old)),
        pack_sources([1, 3], sources),
        Deltas(runs_of([1, 3]), runs_of([1, 3]), [offer]),
    )


def test_a_plan_becomes_these_bytes_and_is_read_again() -> None:
    data = golden("plan-1.json")
    assert msgspec.json.encode(answer()) + b"\n" == data
    read = msgspec.json.decode(data, type=PlanAnswer)
    old, new = manifests()
    base, digest = (manifest_digest(encode_manifest(each)) for each in (old, new))
    assert unpack_manifest(read.manifest, digest, {base: old}) == new
    sources = unpack_sources(read.sources, new)
    assert sources[1].signatures == [f"acme-1:{'A' * 86}==", f"acme-2:{'B' * 86}=="]
    assert (sources[3].url, sources[3].compression) == ("https://cache.example/nar/x.nar.xz", "xz")
    assert read.deltas is not None
    assert read.deltas.successors() == {1: 1, 3: 3}
    assert renames(new, old, {1: 1, 3: 3}, 3, 3) == [(OLD_HASH, NEW_HASH), (b"a" * 32, b"r" * 32)]


def test_a_plan_of_a_newer_hub_may_say_more() -> None:
    data = msgspec.json.decode(golden("plan-1.json"))
    data["something"] = data["manifest"]["something"] = data["sources"]["something"] = 1
    assert msgspec.json.decode(msgspec.json.encode(data), type=PlanAnswer) == answer()


def test_this_delta_makes_these_bytes() -> None:
    base = rename(BASE, [(OLD_HASH, NEW_HASH)])
    delta = golden("delta-1.bin")
    made = apply_delta(lambda start, length: base[start : start + length], len(base), [delta], len(TARGET))
    assert b"".join(made) == TARGET
    assert delta.startswith(b"piste-delta-1\n" + len(base).to_bytes(8, "little"))
    assert delta_address("sha256:aa", "sha256:bb", 3) == "manifest/aa/deltas/bb/3"


def test_a_store_s_paths_become_these_bytes() -> None:
    parts = ["0" * 32, "1" + "0" * 31, "z" * 32, "0" * 6 + "8" + "0" * 25]
    assert pack_paths(parts) == golden("paths-1.bin")
    assert set(unpack_paths(golden("paths-1.bin"))) == {0, 1, 1 << 27, (1 << 32) - 1}
