"""Small closures made up of bytes, and their publication request by request."""

import gzip
import hashlib
import io
import random
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from piste.client.api import HubClient, publication_path
from piste.lib.zstd import zstd
from piste.nix import base32
from piste.nix.hashes import Hash, sha256_of
from piste.nix.nar import NarWriter
from piste.nix.store_path import StorePath, make_store_path
from piste.wire.publication import (
    Declaration,
    DeclaredOutput,
    DeclaredPath,
    OpenPublication,
    Publication,
    Published,
)

ATTRIBUTE = "nixosConfigurations.web"


@dataclass(frozen=True)
class Member:
    """One path of a closure, with its NAR."""

    path: StorePath
    nar: bytes
    references: tuple[StorePath, ...]

    @property
    def nar_hash(self) -> Hash:
        return sha256_of(self.nar)

    @property
    def declared(self) -> DeclaredPath:
        return DeclaredPath(
            path=self.path.base_name,
            nar_hash=self.nar_hash.nix32(),
            nar_size=len(self.nar),
            references=[path.base_name for path in self.references],
        )

    @property
    def frame(self) -> bytes:
        """The NAR as a part of an upload."""
        return frame(self.nar_hash, zstd.compress(self.nar, level=1))


def frame(nar_hash: Hash, compressed: bytes) -> bytes:
    """Header and body of one NAR in an upload; neither has to be right."""
    return base32.encode(nar_hash.digest).encode() + len(compressed).to_bytes(8, "little") + compressed


def file_nar(content: bytes) -> bytes:
    """The NAR of a single file."""
    writer = NarWriter()
    return b"".join((writer.regular(len(content)), bytes(writer.data(content)), writer.end()))


def tree_nar(files: Mapping[str, bytes]) -> bytes:
    """The NAR of a directory with these files, by their paths."""
    writer = NarWriter()
    pieces = [writer.directory()]

    def write(inside: str) -> None:
        below = sorted({path[len(inside) :].partition("/")[0] for path in files if path.startswith(inside)})
        for name in below:
            pieces.append(writer.entry(name.encode()))
            content = files.get(inside + name)
            if content is None:
                pieces.append(writer.directory())
                write(f"{inside}{name}/")
            else:
                pieces.extend((writer.regular(len(content)), content))
                writer.data(content)
            pieces.append(writer.end())

    write("")
    return b"".join([*pieces, writer.end()])


def new_path(name: str, seed: object) -> StorePath:
    """A store path that nothing else has."""
    return make_store_path("output:out", sha256_of(repr(seed).encode()), name)


def member(name: str, seed: object, content: bytes = b"", references: Sequence[StorePath] = ()) -> Member:
    """A path whose file names its references and then holds `content`."""
    text = "".join(f"{path}\n" for path in references).encode()
    return Member(new_path(name, seed), file_nar(text + content), tuple(sorted(references)))


def make_closure(
    seed: int, *, paths: int = 6, size: int = 500_000, base: Member | None = None
) -> list[Member]:
    """`paths` paths, dependencies first; half of each can be compressed. Other closures have none of
    them, but `base`, which the first of them refers to."""
    draw = random.Random(seed)
    made = [base] if base is not None else []
    for number in range(paths):
        half = draw.randrange(size // 4, size) // 2
        content = draw.randbytes(half) + b"a line that comes again and again\n" * (half // 34)
        references = [each.path for each in made[-3:]]
        made.append(member(f"part-{seed}-{number}", (seed, number), content, references))
    return made


def make_source(text: str) -> bytes:
    """The source of a release: a .tar.gz with a flake.nix. The same text gives the same bytes."""
    buffer = io.BytesIO()
    with (
        gzip.GzipFile("", "wb", fileobj=buffer, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        content = f"# {text}\n{{ outputs = _: {{ }}; }}\n".encode()
        entry = tarfile.TarInfo("source/flake.nix")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


class Publishing:
    """One publication. `before` is told of each step that is about to begin."""

    def __init__(
        self,
        client: HubClient,
        organization: str,
        project: str,
        version: str,
        *,
        stage: str | None = None,
        before: Callable[[str], None] = lambda step: None,
    ) -> None:
        self._client = client
        self._before = before
        self._before("open")
        message = OpenPublication(version=version, stage=stage)
        self.publication: Publication = client.open_publication(organization, project, message)

    def declare(self, members: Sequence[Member], outputs: Sequence[DeclaredOutput] = ()) -> list[str]:
        """Tell of the paths; the base names of those that are to be uploaded."""
        self._before("declare")
        paths = [each.declared for each in members]
        return self._client.declare(self.publication, Declaration(paths, list(outputs))).missing

    def upload(self, body: bytes) -> None:
        self._before("upload")
        path = (*publication_path(self.publication), "nars")
        self._client.request("POST", path, body, headers={"Content-Type": "application/octet-stream"})

    def source(self, data: bytes) -> None:
        self._before("source")
        path = (*publication_path(self.publication), "source")
        self._client.request("PUT", path, data, headers={"Content-Type": "application/gzip"})

    def finish(self) -> Published:
        self._before("finish")
        return self._client.finish(self.publication)


def publish(
    client: HubClient,
    organization: str,
    project: str,
    version: str,
    members: Sequence[Member],
    *,
    outputs: Mapping[str, Member] | None = None,
    stage: str | None = None,
    before: Callable[[str], None] = lambda step: None,
) -> Published:
    """The whole of it. Without `outputs` the last of `members` is the only one."""
    publishing = Publishing(client, organization, project, version, stage=stage, before=before)
    chosen = outputs or {ATTRIBUTE: members[-1]}
    declared = [DeclaredOutput(attribute, str(each.path)) for attribute, each in chosen.items()]
    missing = publishing.declare(members, declared)
    wanted = [each for each in members if each.path.base_name in missing]
    # Two uploads, so that one may be whole while the other is not.
    for part in (wanted[: len(wanted) // 2], wanted[len(wanted) // 2 :]):
        if part:
            publishing.upload(b"".join(each.frame for each in part))
    publishing.source(make_source(version))
    return publishing.finish()


def digest_of(text: str) -> bytes:
    """A hash that belongs to nothing."""
    return hashlib.sha256(text.encode()).digest()
