"""The manifest and the statement are promises to hosts: the same input gives these very bytes, for ever.

A test here that fails means that hosts in the field would refuse what a hub says. The answer is a new format
with a new name, never new golden files.
"""

import hashlib
import io
from collections.abc import Iterable
from pathlib import Path

import pytest

from piste.hub.access.records import Project
from piste.hub.cache.gathered import Gathered
from piste.hub.cache.records import PathRecord
from piste.hub.registry.outputs import BuiltManifest, sign_statement, statement_text, write_manifest
from piste.hub.registry.records import OutputRow
from piste.nix.hashes import sha256_of
from piste.nix.signature import PublicKey, SecretKey
from piste.nix.store_path import StorePath
from piste.wire.manifest import ManifestError, decode_manifest, manifest_digest
from piste.wire.statement import decode_statement

GOLDEN = Path(__file__).parent / "golden"
KEY = SecretKey("acme-1", hashlib.sha256(b"a key for golden files").digest())
PROJECT = Project(
    id="00000000-0000-7000-8000-000000000001",
    organization="00000000-0000-7000-8000-000000000002",
    organization_name="Acme",
    name="web",
    visibility="private",
    created_at=0,
)


def path(letter: str, name: str) -> str:
    return StorePath(letter * 32, name).base_name


GLIBC, BASH, CONFIG, SYSTEM = (
    path("d", "glibc-2.40"),
    path("b", "bash"),
    path("c", "etc"),
    path("a", "system"),
)


def record(name: str, references: list[str], content_address: str | None = None) -> PathRecord:
    listed = ", ".join(f'"{each}"' for each in references)
    return PathRecord(
        hash_part=name[:32],
        name=name[33:],
        nar_hash=sha256_of(name.encode()).nix32(),
        nar_size=len(name) * 8,
        reference_names=f"[{listed}]",
        content_address=content_address,
        signatures='["somebody-1:AAAA"]',
        deriver=path("f", "x.drv"),
    )


CLOSURE = {
    SYSTEM: record(SYSTEM, [BASH, CONFIG, SYSTEM]),
    CONFIG: record(CONFIG, [GLIBC], "text:sha256:" + "0" * 52),
    BASH: record(BASH, [GLIBC]),
    GLIBC: record(GLIBC, [GLIBC]),
}


def golden(name: str) -> bytes:
    return (GOLDEN / name).read_bytes()


def written(folder: Path, records: Iterable[PathRecord]) -> tuple[BuiltManifest, bytes]:
    """The manifest of the system, and its bytes."""
    file = io.BytesIO()
    with Gathered(folder) as paths:
        for each in records:
            paths.put([each])
        return write_manifest(SYSTEM, paths, file), file.getvalue()


def test_a_closure_becomes_these_bytes(tmp_path: Path) -> None:
    built, data = written(tmp_path, CLOSURE.values())
    assert data == golden("manifest-1.json")
    assert built.digest == golden("manifest-1.digest").decode().strip()
    assert (built.path_count, built.root) == (4, SYSTEM)


def test_the_order_of_what_the_database_gives_does_not_matter(tmp_path: Path) -> None:
    assert written(tmp_path, reversed(CLOSURE.values()))[1] == golden("manifest-1.json")


def test_these_bytes_are_read() -> None:
    data = golden("manifest-1.json")
    manifest = decode_manifest(data, manifest_digest(data))
    assert [entry.path for entry in manifest.paths] == [GLIBC, BASH, CONFIG, SYSTEM]
    assert manifest.paths[2].content_address == "text:sha256:" + "0" * 52
    assert [manifest.paths[number].path for number in manifest.root.references] == [BASH, CONFIG, SYSTEM]


def test_a_release_becomes_this_statement_with_this_signature() -> None:
    output = OutputRow(
        attribute='nixosConfigurations."web.example.org"',
        store_path=f"/nix/store/{SYSTEM}",
        system="x86_64-linux",
    )
    manifest = golden("manifest-1.digest").decode().strip()
    signed = sign_statement(statement_text(PROJECT, f"0.1.7+rev-{'e' * 40}", 42, output, manifest), [KEY])
    assert signed.text.encode() == golden("statement-1.json")
    assert signed.signatures == golden("statement-1.signature").decode().split()


def test_this_statement_is_read_and_its_signature_holds() -> None:
    text = golden("statement-1.json").decode()
    key = PublicKey.parse(golden("statement-1.public-key").decode())
    assert key.verify(text, golden("statement-1.signature").decode().strip())
    statement = decode_statement(text)
    assert (statement.organization, statement.project, statement.sequence) == ("Acme", "web", 42)
    assert not text.startswith("1;")


@pytest.mark.parametrize("place", [10, 100, 400])
def test_one_other_byte_is_another_manifest(place: int) -> None:
    data = bytearray(golden("manifest-1.json"))
    data[place] ^= 1
    with pytest.raises(ManifestError):
        decode_manifest(bytes(data), golden("manifest-1.digest").decode().strip())
