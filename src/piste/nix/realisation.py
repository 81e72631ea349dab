"""Entries of the build trace: which path an output of a content-addressed derivation became. Pure.

There are two forms. Up to 2.34 Nix names the derivation by a hash of its own, the output behind a `!`, and
keeps entries as `realisations/<hash>!<output>.doi`; from 2.35 on by its store path, as
`build-trace-v2/<derivation>/<output>.doi`. What is signed is the JSON without signatures, to the letter.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from piste.nix.signature import is_signature
from piste.nix.store_path import StorePath, StorePathError

MAX_LENGTH: Final = 256 * 1024
MAX_SIGNATURES: Final = 100
_HASH: Final = re.compile(r"sha256:[0-9a-f]{64}")
_OUTPUT: Final = re.compile(r"[0-9a-zA-Z+?=._-]{1,211}")


class RealisationError(ValueError):
    """The text is no entry of a build trace."""


@dataclass(frozen=True, slots=True)
class DrvOutput:
    """What an entry is about: `drv` is `sha256:<hex>`, or the base name of the derivation's store path."""

    drv: str
    output: str

    def __post_init__(self) -> None:
        if not _OUTPUT.fullmatch(self.output):
            raise RealisationError(f"{self.output[:100]!r} can't be the name of an output")
        if self.is_hash:
            return
        try:
            StorePath.from_base_name(self.drv)
        except StorePathError as error:
            raise RealisationError(str(error)) from None
        if not self.drv.endswith(".drv"):
            raise RealisationError(f"{self.drv} is no derivation")

    @property
    def is_hash(self) -> bool:
        """Whether it is of the form that Nix had up to 2.34."""
        return _HASH.fullmatch(self.drv) is not None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `sha256:<hex>!<output>`."""
        drv, mark, output = text.partition("!")
        if not mark or not _HASH.fullmatch(drv):
            raise RealisationError(f"{text[:150]!r} names no output of a derivation")
        return cls(drv, output)

    def __str__(self) -> str:
        return f"{self.drv}!{self.output}"


@dataclass(frozen=True, slots=True)
class Realisation:
    """One entry. `dependents` are the entries that this one was built from, of the older form alone."""

    id: DrvOutput
    out_path: StorePath
    signatures: tuple[str, ...] = ()
    dependents: Mapping[str, str] = field(default_factory=dict)

    def fingerprint(self) -> str:
        """The text that signatures are made over."""
        return _json(self.unsigned())

    def with_signatures(self, signatures: Iterable[str]) -> Self:
        return type(self)(self.id, self.out_path, tuple(signatures), self.dependents)

    def unsigned(self) -> dict[str, Any]:
        """All of the entry but its signatures."""
        out_path = self.out_path.base_name
        if self.id.is_hash:
            return {"dependentRealisations": dict(self.dependents), "id": str(self.id), "outPath": out_path}
        key = {"drvPath": self.id.drv, "outputName": self.id.output}
        return {"key": key, "value": {"outPath": out_path}}


def parse_realisation(text: str, about: DrvOutput) -> Realisation:
    """Read an entry that was put in the place of `about`."""
    if len(text) > MAX_LENGTH:
        raise RealisationError(f"an entry of {len(text)} characters is too long")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise RealisationError("the entry is not JSON") from None
    if not isinstance(found, dict):
        raise RealisationError("the entry is not an object")
    if about.is_hash and found.get("id") != str(about):
        raise RealisationError(f"the entry is about something else than {about}")
    dependents = found.get("dependentRealisations", {}) if about.is_hash else {}
    return Realisation(about, _out_path(found), _signatures(found), _dependents(dependents))


def format_realisation(realisation: Realisation) -> str:
    """The JSON as a cache serves it; of the newer form without its key, which stands in the address."""
    unsigned = realisation.unsigned()
    if realisation.id.is_hash:
        return _json({**unsigned, "signatures": list(realisation.signatures)})
    signatures = [
        {"keyName": name, "sig": made}
        for name, _, made in (signature.partition(":") for signature in realisation.signatures)
    ]
    return _json({**unsigned["value"], "signatures": signatures})


def _out_path(found: dict[str, Any]) -> StorePath:
    text = found.get("outPath")
    if not isinstance(text, str):
        raise RealisationError("the entry does not say outPath")
    try:
        return StorePath.from_base_name(text.removeprefix("/nix/store/"))
    except StorePathError as error:
        raise RealisationError(str(error)) from None


def _signatures(found: dict[str, Any]) -> tuple[str, ...]:
    given = found.get("signatures", [])
    if not isinstance(given, list) or len(given) > MAX_SIGNATURES:
        raise RealisationError("the signatures of the entry are no list, or far too many")
    texts = []
    for each in given:
        text = f"{each.get('keyName')}:{each.get('sig')}" if isinstance(each, dict) else each
        if not isinstance(text, str):
            raise RealisationError("a signature of the entry is no text")
        texts.append(text)
    if not all(map(is_signature, texts)):
        raise RealisationError("what the entry calls a signature is none")
    return tuple(dict.fromkeys(texts))


def _dependents(found: Any) -> dict[str, str]:
    if not isinstance(found, dict):
        raise RealisationError("dependentRealisations is no object")
    for name, path in found.items():
        DrvOutput.parse(name)
        try:
            StorePath.from_base_name(path if isinstance(path, str) else "")
        except StorePathError as error:
            raise RealisationError(str(error)) from None
    return dict(sorted(found.items()))


def _json(value: Any) -> str:
    """As nlohmann's library prints it for Nix: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
