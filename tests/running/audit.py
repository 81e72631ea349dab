"""Reads a release as a host does, all of it: statement, manifest, narinfos, NARs. Believes nothing."""

import http.client
import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlsplit

from piste.lib.zstd import zstd
from piste.nix.hashes import sha256_of
from piste.nix.narinfo import NarInfo, parse_narinfo
from piste.nix.signature import PublicKey, verify_any
from piste.wire.manifest import Manifest, decode_manifest
from piste.wire.statement import Statement, decode_statement
from tests.running.tenants import Tenant


class Reader:
    """Reads over one connection, as the holder of a token."""

    def __init__(self, url: str, token: str | None) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
        self._headers = {"Authorization": f"Bearer {token}"} if token is not None else {}

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def answer(self, path: str, method: str = "GET") -> tuple[int, bytes]:
        self._connection.request(method, path, headers=self._headers)
        response = self._connection.getresponse()
        return response.status, response.read()

    def get(self, path: str) -> bytes:
        status, body = self.answer(path)
        assert status == 200, f"{path}: {status} {body[:500]!r}"
        return body

    def json(self, path: str) -> Any:
        return json.loads(self.get(path))


def versions(reader: Reader, tenant: Tenant) -> list[str]:
    """The versions that the project shows."""
    return [release["version"] for release in reader.json(f"{tenant.api}/releases?limit=1000")]


def check_release(
    reader: Reader, tenant: Tenant, key: PublicKey, version: str, contents: bool = True
) -> list[str]:
    """Every output of a release, as a host would have it; the base names of what was read."""
    details = reader.json(f"{tenant.api}/releases/{quote('=' + version, safe='')}")
    assert details["outputs"], f"{version} has no outputs"
    names: list[str] = []
    for output in details["outputs"]:
        assert output["available"], f"{version}: {output['attribute']} is not available"
        names += _check_output(reader, tenant, key, version, output["attribute"], contents)
    source = reader.answer(f"{tenant.api}/releases/{quote('=' + version, safe='')}/source")
    assert source[0] == 200, f"{version} has no source: {source}"
    return names


def _check_output(
    reader: Reader, tenant: Tenant, key: PublicKey, version: str, attribute: str, contents: bool
) -> list[str]:
    requirement, attribute = quote(f"={version}", safe=""), quote(attribute, safe="")
    found = reader.json(f"{tenant.api}/resolve/{requirement}/{attribute}?token=true")
    statement = _statement(found, key)
    assert (statement.version, statement.store_path) == (version, found["store_path"])
    digest = statement.manifest.removeprefix("sha256:")
    with Reader(tenant.hub.url, found["token"]) as closure:
        manifest = decode_manifest(closure.get(f"{tenant.cache_path}/manifest/{digest}"), statement.manifest)
        sources = closure.json(f"{tenant.cache_path}/manifest/{digest}/sources")["sources"]
        assert len(sources) == len(manifest.paths)
        assert f"{manifest.store_dir}/{manifest.root.path}" == statement.store_path
        for place in range(len(manifest.paths)):
            _check_path(closure, tenant, key, manifest, place, contents)
    return [entry.path for entry in manifest.paths]


def _statement(found: Any, key: PublicKey) -> Statement:
    assert verify_any([key], found["statement"], found["statement_signatures"]), "the statement is not signed"
    return decode_statement(found["statement"])


def _check_path(
    reader: Reader, tenant: Tenant, key: PublicKey, manifest: Manifest, place: int, contents: bool
) -> None:
    entry = manifest.paths[place]
    narinfo = parse_narinfo(reader.get(f"{tenant.cache_path}/{entry.path[:32]}.narinfo").decode())
    info = narinfo.info
    assert verify_any([key], info.fingerprint(), info.signatures), f"{entry.path} is not signed"
    assert (info.path.base_name, info.nar_hash.nix32(), info.nar_size) == (
        entry.path,
        entry.nar_hash,
        entry.nar_size,
    )
    expected = sorted(manifest.paths[index].path for index in entry.references)
    assert [path.base_name for path in info.references] == expected
    if contents:
        _check_nar(reader, tenant, narinfo)


def _check_nar(reader: Reader, tenant: Tenant, narinfo: NarInfo) -> None:
    data = reader.get(f"{tenant.cache_path}/{narinfo.url}")
    assert narinfo.file_hash is not None and narinfo.file_size == len(data)
    assert sha256_of(data) == narinfo.file_hash, f"{narinfo.url} is not the file that its narinfo tells of"
    nar = zstd.decompress(data)
    assert len(nar) == narinfo.info.nar_size
    assert sha256_of(nar) == narinfo.info.nar_hash, f"{narinfo.url} holds another NAR"


def check_absent(reader: Reader, tenant: Tenant, version: str, base_names: Sequence[str]) -> None:
    """Nothing of this version can be seen: no release, no path."""
    requirement = quote(f"={version}", safe="")
    assert reader.answer(f"{tenant.api}/releases/{requirement}")[0] == 404
    for name in base_names:
        for address in (tenant.cache_path, ""):
            status, _ = reader.answer(f"{address}/{name[:32]}.narinfo")
            assert status == 404, f"{name} of the unpublished {version} can be read"
