"""Content addresses (`CA:` of a narinfo) and the store paths that follow from them.

A path whose name follows from its content needs no signature: whoever has the bytes can check it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, Self

from piste.nix.hashes import Hash, HashError, sha256_of
from piste.nix.store_path import StorePath, make_store_path

Method = Literal["text", "flat", "nar", "git"]

_PREFIXES: Final[dict[Method, str]] = {
    "text": "text:",
    "flat": "fixed:",
    "nar": "fixed:r:",
    "git": "fixed:git:",
}
# Longer beginnings first: `fixed:` is the beginning of two others.
_BY_PREFIX: Final[tuple[tuple[str, Method], ...]] = (
    ("text:", "text"),
    ("fixed:r:", "nar"),
    ("fixed:git:", "git"),
    ("fixed:", "flat"),
)


class ContentAddressError(ValueError):
    """The text is not a content address, or no path can follow from it."""


@dataclass(frozen=True, slots=True)
class ContentAddress:
    """How the content was made into bytes (`method`), and their hash."""

    method: Method
    hash: Hash

    @classmethod
    def parse(cls, text: str) -> Self:
        for prefix, method in _BY_PREFIX:
            if text.startswith(prefix):
                try:
                    return cls(method, Hash.parse(text[len(prefix) :]))
                except HashError as error:
                    raise ContentAddressError(
                        f"the content address {text[:300]!r} is wrong: {error}"
                    ) from None
        raise ContentAddressError(f"{text[:300]!r} is not a content address")

    def __str__(self) -> str:
        return _PREFIXES[self.method] + self.hash.nix32()

    def store_path(
        self, name: str, references: Iterable[StorePath] = (), *, self_reference: bool = False
    ) -> StorePath:
        """The path that content of this address has under a name; `references` are those to other paths."""
        if self.method == "text":
            if self_reference:
                raise ContentAddressError("a text cannot refer to itself")
            return text_path(name, self.hash, references)
        return fixed_output_path(name, self.method, self.hash, references, self_reference=self_reference)

    def names(self, path: StorePath, references: Iterable[StorePath] = ()) -> bool:
        """Whether `path`, which refers to `references` (perhaps to itself), is the path of this content."""
        others = set(references)
        to_itself = path in others
        try:
            return self.store_path(path.name, others - {path}, self_reference=to_itself) == path
        except ContentAddressError:
            return False


def text_path(name: str, content: Hash, references: Iterable[StorePath] = ()) -> StorePath:
    """The path of a plain text file, such as a derivation."""
    if content.algorithm != "sha256":
        raise ContentAddressError("texts are addressed by sha256")
    return make_store_path(_with_references("text", references), content, name)


def fixed_output_path(
    name: str,
    method: Method,
    content: Hash,
    references: Iterable[StorePath] = (),
    *,
    self_reference: bool = False,
) -> StorePath:
    """The path of a file, a folder or a git tree whose hash is fixed."""
    others = list(references)
    if method == "nar" and content.algorithm == "sha256":
        kind = _with_references("source", others) + (":self" if self_reference else "")
        return make_store_path(kind, content, name)
    if others or self_reference:
        raise ContentAddressError("only content hashed as a NAR with sha256 can have references")
    infix = {"nar": "r:", "git": "git:"}.get(method, "")
    inner = sha256_of(f"fixed:out:{infix}{content.algorithm}:{content.hex()}:".encode())
    return make_store_path("output:out", inner, name)


def _with_references(kind: str, references: Iterable[StorePath]) -> str:
    return ":".join([kind, *(str(path) for path in sorted(set(references)))])
