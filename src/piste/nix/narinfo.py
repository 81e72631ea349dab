"""What is known of a store path, and the `.narinfo` text by which a binary cache tells it.

Parsing is strict and bounded, since what comes in is somebody else's. Never prints what old parsers misread.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

from piste.nix.hashes import Hash, HashError
from piste.nix.store_path import StorePath, StorePathError

# An environment of ten thousand references is 500 kB; anything longer is no narinfo.
MAX_LENGTH: Final = 2 * 1024 * 1024
MAX_SIGNATURES: Final = 100
MAX_SIZE: Final = 2**63 - 1

# Other words are refused: the reader would take the body for something that it is not.
COMPRESSIONS: Final = frozenset(
    {"none", "xz", "bzip2", "gzip", "zstd", "br", "lz4", "lzip", "lzma", "lzop", "lrzip", "grzip", "compress"}
)


class NarInfoError(ValueError):
    """The text is not a narinfo, or a value in it makes no sense."""


@dataclass(frozen=True, slots=True)
class PathInfo:
    """A store path with the hash and size of its NAR, what it refers to, and who vouches for it."""

    path: StorePath
    nar_hash: Hash
    nar_size: int
    references: tuple[StorePath, ...] = ()
    deriver: StorePath | None = None
    signatures: tuple[str, ...] = ()
    ca: str | None = None

    def __post_init__(self) -> None:
        if self.nar_hash.algorithm != "sha256":
            raise NarInfoError("the hash of a NAR is a sha256")
        if not 0 < self.nar_size <= MAX_SIZE:
            raise NarInfoError(f"a NAR cannot have {self.nar_size} bytes")
        # Sorted and each once, as the fingerprint wants them; by their texts, which are quicker to compare.
        by_name = {path.base_name: path for path in self.references}
        object.__setattr__(self, "references", tuple(by_name[name] for name in sorted(by_name)))

    def fingerprint(self) -> str:
        """The text that signatures are made over. It says nothing of how or where the NAR is kept."""
        references = ",".join(map(str, self.references))
        return f"1;{self.path};{self.nar_hash.nix32()};{self.nar_size};{references}"

    def with_signatures(self, signatures: Iterable[str]) -> Self:
        """The same with these signatures instead."""
        return type(self)(
            self.path, self.nar_hash, self.nar_size, self.references, self.deriver, tuple(signatures), self.ca
        )


@dataclass(frozen=True, slots=True)
class NarInfo:
    """A path info, and where and how a cache keeps the NAR. `file_*` speak of the compressed file."""

    info: PathInfo
    url: str
    compression: str
    file_hash: Hash | None = None
    file_size: int | None = None

    def __post_init__(self) -> None:
        if not self.url or len(self.url) > 4096 or not self.url.isprintable() or " " in self.url:
            raise NarInfoError("the URL of a narinfo is empty, too long or has spaces or control characters")
        if self.compression not in COMPRESSIONS:
            raise NarInfoError(f"{self.compression[:50]!r} is not a compression that Nix knows")


def parse_narinfo(text: str) -> NarInfo:
    """Read a narinfo. Unknown keys are passed over, everything else has to be right."""
    fields = _fields(text)
    try:
        info = PathInfo(
            path=StorePath.parse(_required(fields, "StorePath")),
            nar_hash=Hash.parse(_required(fields, "NarHash")),
            nar_size=_number(_required(fields, "NarSize"), "NarSize"),
            references=tuple(StorePath.from_base_name(name) for name in _one(fields, "References").split()),
            deriver=_deriver(_one(fields, "Deriver")),
            signatures=tuple(fields.get("Sig", ())),
            ca=_one(fields, "CA") or None,
        )
        file_hash = _one(fields, "FileHash")
        return NarInfo(
            info,
            url=_required(fields, "URL"),
            compression=_one(fields, "Compression") or "bzip2",  # what Nix takes an absent one for
            file_hash=Hash.parse(file_hash) if file_hash else None,
            file_size=_number(_one(fields, "FileSize") or "0", "FileSize") or None,
        )
    except (StorePathError, HashError) as error:
        raise NarInfoError(f"the narinfo is wrong: {error}") from None


def format_narinfo(narinfo: NarInfo) -> str:
    """Print a narinfo; `References:` is always there with its space, or old parsers swallow the next line."""
    info = narinfo.info
    lines = [f"StorePath: {info.path}", f"URL: {narinfo.url}", f"Compression: {narinfo.compression}"]
    if narinfo.file_hash is not None:
        lines.append(f"FileHash: {narinfo.file_hash.nix32()}")
    if narinfo.file_size is not None:
        lines.append(f"FileSize: {narinfo.file_size}")
    lines.append(f"NarHash: {info.nar_hash.nix32()}")
    lines.append(f"NarSize: {info.nar_size}")
    lines.append("References: " + " ".join(path.base_name for path in info.references))
    if info.deriver is not None:
        lines.append(f"Deriver: {info.deriver.base_name}")
    lines.extend(f"Sig: {signature}" for signature in info.signatures)
    if info.ca is not None:
        lines.append(f"CA: {info.ca}")
    return "".join(line + "\n" for line in lines)


def _fields(text: str) -> dict[str, list[str]]:
    if len(text) > MAX_LENGTH:
        raise NarInfoError(f"a narinfo of {len(text)} characters is too long")
    if not text.endswith("\n"):
        raise NarInfoError("the narinfo is cut: its last line does not end")
    if not text.replace("\n", " ").isprintable():
        raise NarInfoError("the narinfo holds control characters")
    fields: dict[str, list[str]] = {}
    for line in text[:-1].split("\n"):
        key, separator, value = line.partition(": ")
        if not separator:
            raise NarInfoError(f"the narinfo has a line without a value: {line[:100]!r}")
        fields.setdefault(key, []).append(value)
    if len(fields.get("Sig", ())) > MAX_SIGNATURES:
        raise NarInfoError(f"the narinfo has more than {MAX_SIGNATURES} signatures")
    return fields


def _one(fields: dict[str, list[str]], key: str) -> str:
    values = fields.get(key, [""])
    if len(values) > 1:
        raise NarInfoError(f"the narinfo says {key} twice")
    return values[0]


def _required(fields: dict[str, list[str]], key: str) -> str:
    value = _one(fields, key)
    if not value:
        raise NarInfoError(f"the narinfo does not say {key}")
    return value


def _number(text: str, key: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 19:
        raise NarInfoError(f"{key} of the narinfo is not a number: {text[:50]!r}")
    number = int(text)
    if number > MAX_SIZE:
        raise NarInfoError(f"{key} of the narinfo is too large")
    return number


def _deriver(text: str) -> StorePath | None:
    return None if text in ("", "unknown-deriver") else StorePath.from_base_name(text)
