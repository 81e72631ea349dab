"""Entries of the build trace, as each generation of Nix writes and signs them."""

import json

import pytest

from piste.nix.listing import build_ids, debug_member
from piste.nix.realisation import (
    DrvOutput,
    Realisation,
    RealisationError,
    format_realisation,
    parse_realisation,
)
from piste.nix.signature import SecretKey
from piste.nix.store_path import StorePath

HASH = "sha256:" + "0a" * 32
OLD = DrvOutput(HASH, "out")
NEW = DrvOutput("0" * 32 + "-app.drv", "out")
PATH = StorePath("1" * 32, "app")
SIGNATURE = SecretKey.generate("somebody-1").sign("a text")


def test_what_is_signed_is_the_json_of_each_generation_to_the_letter() -> None:
    assert Realisation(OLD, PATH, (SIGNATURE,)).fingerprint() == (
        '{"dependentRealisations":{},"id":"' + HASH + '!out","outPath":"' + "1" * 32 + '-app"}'
    )
    assert Realisation(NEW, PATH, (SIGNATURE,)).fingerprint() == (
        '{"key":{"drvPath":"' + NEW.drv + '","outputName":"out"},"value":{"outPath":"' + "1" * 32 + '-app"}}'
    )


@pytest.mark.parametrize("about", [OLD, NEW])
def test_what_was_written_is_read_again(about: DrvOutput) -> None:
    said = Realisation(about, PATH, (SIGNATURE,), {str(OLD): PATH.base_name} if about is OLD else {})
    assert parse_realisation(format_realisation(said), about) == said


def test_signatures_are_read_in_both_spellings() -> None:
    name, _, made = SIGNATURE.partition(":")
    for given in (SIGNATURE, {"keyName": name, "sig": made}):
        text = json.dumps({"outPath": PATH.base_name, "signatures": [given, given], "more": 1})
        assert parse_realisation(text, NEW).signatures == (SIGNATURE,)
    assert parse_realisation(json.dumps({"outPath": str(PATH)}), NEW).signatures == ()


@pytest.mark.parametrize(
    ("drv", "output"),
    [(HASH, ""), (HASH, "a/b"), ("x", "out"), ("0" * 32 + "-app", "out"), (HASH[:-1], "out")],
)
def test_a_name_that_no_output_has_is_refused(drv: str, output: str) -> None:
    with pytest.raises(RealisationError):
        DrvOutput(drv, output)
    with pytest.raises(RealisationError):
        DrvOutput.parse(f"{drv}!{output}")


def test_the_debug_information_of_a_listing_is_found_where_it_lies_and_nowhere_else() -> None:
    build_id = "ab" * 20

    def listing(*names: str) -> bytes:
        root: dict[str, object] = {"type": "directory", "entries": {}}
        for name in names:
            place = root
            for part in name.split("/"):
                entries = place.setdefault("entries", {})
                assert isinstance(entries, dict)
                place = entries.setdefault(part, {})
            place["type"] = "regular"
        return json.dumps({"root": root, "version": 1}).encode()

    assert build_ids(listing(debug_member(build_id), "bin/app")) == (build_id,)
    assert build_ids(listing("lib/.build-id/ab/" + build_id[2:] + ".debug")) == ()
    assert build_ids(listing("lib/debug/.build-id")) == ()
    assert (
        build_ids(listing("lib/debug/.build-id/ab/x.debug", "lib/debug/.build-id/ab/" + build_id[2:])) == ()
    )
    assert build_ids(b'{"root":{"type":"regular","size":1},"version":1}') == ()
