"""Stage 2, authorised → planned: what the closure consists of, and which of its paths this host lacks.

Two requests at once tell all of it (the manifest, and where its NARs are), and one question to Nix what is
there. The manifest is believed because the signed statement names its digest; addresses are believed for
nothing.
"""

from concurrent.futures import ThreadPoolExecutor

import msgspec

from piste.client.address import parse_address
from piste.client.credentials import Credential
from piste.client.hub import HubConnection
from piste.host.records import Authorised, Plan
from piste.lib.errors import PisteError
from piste.nix.store_path import STORE_DIR, StorePath
from piste.nixcmd.daemon import Daemon
from piste.wire.manifest import Manifest, ManifestError, UnknownFormatError, decode_manifest
from piste.wire.resolution import ManifestSources, NarSource


def cache_credential(authorised: Authorised) -> Credential:
    """The cache that the closure is read from, and the token that reads exactly that."""
    return Credential(parse_address(authorised.resolution.cache_url), authorised.resolution.token)


def make_plan(authorised: Authorised, daemon: Daemon) -> Plan:
    """Ask for the manifest and the sources at once, then Nix for what is there."""
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(_sources, authorised)
        manifest = _manifest(authorised)
        sources = asked.result()
    if len(sources) != len(manifest.paths):
        raise PisteError("bad-answer", "The hub tells of other paths than the release's manifest does.")
    missing = _missing(manifest, daemon)
    sizes = [estimate(manifest, sources, place) for place in range(len(manifest.paths))]
    return Plan(manifest, sources, missing, sum(sizes[place] for place in missing), sum(sizes))


def _missing(manifest: Manifest, daemon: Daemon) -> list[int]:
    """Places of the paths that are not there; those that are stay while the daemon's connection lasts."""
    paths = [StorePath.from_base_name(entry.path) for entry in manifest.paths]
    while True:
        valid = daemon.query_valid_paths(paths)
        # What a kept path refers to is kept as well, so it is enough to keep those that no other one refers
        # to.
        below = {
            index
            for place, entry in enumerate(manifest.paths)
            for index in entry.references
            if index != place and paths[place] in valid
        }
        daemon.add_temp_roots(
            path for place, path in enumerate(paths) if path in valid and place not in below
        )
        # The garbage collector may have been between the question and the roots.
        if daemon.query_valid_paths(valid) == valid:
            return [place for place, path in enumerate(paths) if path not in valid]


def estimate(manifest: Manifest, sources: list[NarSource], place: int) -> int:
    """How many bytes a NAR has on its way; that of the NAR itself where the hub does not know."""
    return sources[place].file_size or manifest.paths[place].nar_size


def _manifest(authorised: Authorised) -> Manifest:
    digest = authorised.statement.manifest
    with HubConnection(cache_credential(authorised)) as cache:
        data = cache.request("GET", ("manifest", digest.removeprefix("sha256:")))
    try:
        manifest = decode_manifest(data, digest)
    except UnknownFormatError as error:
        raise PisteError("manifest-unknown", f"The manifest can't be understood: {error}.") from error
    except ManifestError as error:
        raise PisteError("bad-manifest", f"The hub's manifest can't be used: {error}.") from error
    if f"{STORE_DIR}/{manifest.root.path}" != authorised.store_path or manifest.store_dir != STORE_DIR:
        raise PisteError("bad-manifest", "The manifest is that of another store path than the release's.")
    return manifest


def _sources(authorised: Authorised) -> list[NarSource]:
    digest = authorised.statement.manifest.removeprefix("sha256:")
    with HubConnection(cache_credential(authorised)) as cache:
        data = cache.request("GET", ("manifest", digest, "sources"))
    try:
        answer = msgspec.json.decode(data, type=ManifestSources)
    except msgspec.DecodeError as error:
        raise PisteError("bad-answer", f"The hub's list of NARs can't be read: {error}.") from error
    return answer.sources
