"""Manifests that were read a moment ago, within bounds: fifty hosts ask for the same one at once.

A manifest never changes, so what is kept can't be wrong. Says nothing of who may read it.
"""

import asyncio
from collections import OrderedDict
from typing import Final

from piste.hub.registry.outputs import manifest_key
from piste.hub.services import Services
from piste.wire.manifest import Manifest, ManifestError, decode_manifest

# Paths over all that are kept; some 700 bytes each.
_MAX_PATHS: Final = 40_000


class Manifests:
    """One of these a process."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._kept: OrderedDict[str, Manifest] = OrderedDict()
        self._paths = 0
        self._loading: dict[str, asyncio.Task[Manifest | None]] = {}

    async def get(self, digest: str) -> Manifest | None:
        """The manifest `sha256:<hex>`; None when it is gone."""
        if (kept := self._kept.get(digest)) is not None:
            self._kept.move_to_end(digest)
            return kept
        loading = self._loading.get(digest)
        if loading is None:
            loading = self._loading[digest] = asyncio.create_task(self._load(digest))
            loading.add_done_callback(lambda _: self._loading.pop(digest, None))
        return await asyncio.shield(loading)

    async def _load(self, digest: str) -> Manifest | None:
        manifest = await read_manifest(self._services, digest)
        if manifest is None:
            return None
        self._kept[digest] = manifest
        self._paths += len(manifest.paths)
        while self._paths > _MAX_PATHS and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._paths -= len(dropped.paths)
        return manifest


async def read_manifest(services: Services, digest: str) -> Manifest | None:
    """The manifest `sha256:<hex>`; None when it is gone."""
    data = await services.objects.read(manifest_key(digest))
    if data is None:
        return None
    try:
        return await services.workers.run(decode_manifest, data, digest)
    except ManifestError:
        return None
