"""Signing by the publisher, for organizations that don't leave their keys with the hub.

Signs path infos that this machine's own store gave, and statements that it made out by itself from them and
from its own evaluation. What the hub says is compared with that, and is never signed because the hub says
it: only the release's number is the hub's to choose.
"""

import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from piste.client.api import HubClient
from piste.lib.errors import AccessError, PisteError, UsageError
from piste.nix.closure import ClosureError
from piste.nix.content_address import ContentAddress, ContentAddressError
from piste.nix.hashes import Hash
from piste.nix.narinfo import PathInfo
from piste.nix.signature import SecretKey, SignatureKeyError, verify_any
from piste.nix.store_path import StorePath
from piste.publisher.records import EvaluatedOutput
from piste.wire import statement as statement_format
from piste.wire.manifest import encode_manifest, make_manifest, manifest_digest
from piste.wire.publication import DeclaredPath, Finish, Publication, Published, SignedText, Unsigned
from piste.wire.statement import Statement, StatementError, decode_statement, encode_statement

_LARGEST: Final = 4096  # bytes of a key file
_ROUNDS: Final = 5  # times that other releases may come between


def read_signing_keys(files: Iterable[Path], warn: Callable[[str], None]) -> tuple[SecretKey, ...]:
    """Keys in the form that `nix key generate-secret` writes."""
    keys = {key.name: key for key in (_read_key(file, warn) for file in files)}
    return tuple(keys.values())


def _read_key(file: Path, warn: Callable[[str], None]) -> SecretKey:
    try:
        with file.open("rb") as opened:
            mode = stat.S_IMODE(file.stat().st_mode)
            text = opened.read(_LARGEST).decode()
        key = SecretKey.parse(text)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UsageError("bad-signing-key", f"The signing key {file} can't be read: {reason}.") from error
    except SignatureKeyError as error:
        raise UsageError(
            "bad-signing-key",
            f"{file} can't be used: {error}.",
            hint="`nix key generate-secret --key-name NAME` makes one.",
        ) from error
    if mode & 0o077:
        warn(f"Others than you may use the signing key {file} (mode {mode:03o}): chmod 600 {file}")
    return key


def check_keys(publication: Publication, keys: Sequence[SecretKey]) -> None:
    """Before anything is built: whether these keys are the ones that are needed."""
    if not keys and not publication.hub_signs:
        names = ", ".join(key.partition(":")[0] for key in publication.publisher_keys)
        raise UsageError(
            "signing-key-missing",
            f"{publication.organization} keeps its keys to itself, so the hub can't sign this release.",
            hint=f"Give --signing-key-file with one of these keys: {names}.",
        )
    unknown = [str(key.public) for key in keys if str(key.public) not in publication.publisher_keys]
    if unknown:
        raise UsageError(
            "signing-key-unknown",
            f"{unknown[0]} is no key of {publication.organization}.",
            hint=f"An admin registers it: piste org keys add {publication.organization} {unknown[0]}",
        )


def described(
    info: PathInfo,
    keys: Sequence[SecretKey] = (),
    *,
    address: str | None = None,
    narinfo: str | None = None,
) -> DeclaredPath:
    """A path of this machine's store as it is declared, signed with the keys."""
    fingerprint = info.fingerprint() if keys else ""
    names = {key.name for key in keys}
    others = [each for each in info.signatures if each.partition(":")[0] not in names]
    return DeclaredPath(
        path=info.path.base_name,
        nar_hash=info.nar_hash.nix32(),
        nar_size=info.nar_size,
        references=[path.base_name for path in info.references],
        deriver=info.deriver.base_name if info.deriver else None,
        signatures=[*(key.sign(fingerprint) for key in keys), *others],
        content_address=info.ca,
        upstream=address,
        upstream_narinfo=narinfo,
    )


@dataclass(frozen=True)
class Own:
    """What this machine knows of the release by itself."""

    organization: str
    project: str
    version: str
    outputs: Mapping[str, EvaluatedOutput]  # by attribute path, also those that others build
    paths: Mapping[str, DeclaredPath]  # by base name: the closures that it built


def finish_signed(
    client: HubClient, publication: Publication, own: Own, keys: Sequence[SecretKey]
) -> Published:
    """Sign the statements, and make the release visible."""
    signing = _Signing(client, publication, own, keys)
    signed: list[SignedText] = []
    for _ in range(_ROUNDS):
        message = Finish([key.name for key in keys], signed)
        answer = client.finish_signed(publication, message)
        if isinstance(answer, Published):
            return answer
        signed = signing.sign(answer)
    raise PisteError(
        "release-overtaken",
        "Other releases of this project became visible again and again while this one was being signed.",
        hint="Publish again.",
    )


class _Signing:
    def __init__(
        self, client: HubClient, publication: Publication, own: Own, keys: Sequence[SecretKey]
    ) -> None:
        self._client = client
        self._publication = publication
        self._own = own
        self._keys = keys
        self._public = [key.public for key in keys]
        self._said: dict[str, DeclaredPath] | None = None
        self._accepted: dict[str, DeclaredPath] = {}

    def sign(self, offered: Unsigned) -> list[SignedText]:
        """Each text with our signatures, if it is word for word what we would have written."""
        for text in offered.statements:
            self._check(text, offered.sequence)
        return [SignedText(text, [key.sign(text) for key in self._keys]) for text in offered.statements]

    def _check(self, text: str, sequence: int) -> None:
        try:
            said = decode_statement(text)
        except StatementError as error:
            raise _refused(f"a text that is no statement: {error}") from error
        own = self._own
        output = own.outputs.get(said.attribute_path)
        if output is None:
            raise _refused(f"the output {said.attribute_path}, which this flake does not have here")
        expected = Statement(
            format=statement_format.FORMAT,
            organization=_spelt(self._publication.organization, own.organization),
            project=_spelt(self._publication.project, own.project),
            version=own.version,
            sequence=sequence,
            attribute_path=output.name,
            store_path=str(output.store_path),
            system=output.system,
            manifest=self._manifest(output.store_path.base_name, said.manifest),
        )
        if sequence < 1 or text != encode_statement(expected):
            names = [
                name for name in said.__struct_fields__ if getattr(said, name) != getattr(expected, name)
            ]
            raise _refused(
                f"something else of {said.attribute_path} than what is true here:"
                f" {', '.join(names) or 'its spelling'}"
            )

    def _manifest(self, root: str, said: str) -> str:
        """The digest of the closure of an output. What is built here is known from the store; the rest, and
        what the organization holds with other bytes than a build here gave, needs a signature of ours.
        """
        if root in self._own.paths:
            digest = _digest(root, self._own.paths)
            if digest == said:
                return digest
        waiting = [root]
        for name in waiting:
            if name not in self._accepted:
                self._accepted[name] = self._accept(name)
                waiting.extend(self._accepted[name].references)
        return _digest(root, self._accepted)

    def _accept(self, name: str) -> DeclaredPath:
        if self._said is None:
            self._said = {path.path: path for path in self._client.staged_paths(self._publication)}
        said, mine = self._said.get(name), self._own.paths.get(name)
        if said is None:
            raise _refused(f"a closure with {name}, of which it says nothing")
        try:
            info = _info(said)
        except ValueError as error:
            raise _refused(f"a closure with {name}, of which it says what can't be: {error}") from error
        plain = described(info)
        if mine is not None and _content(mine) == _content(plain):
            return plain
        if verify_any(self._public, info.fingerprint(), said.signatures) is None:
            raise _refused(
                f"a closure in which {name} is something that no key given here has signed",
                hint="Another machine of this release must publish with the same --signing-key-file. If a"
                " build gives other bytes each time, and the organization holds those that another key has"
                " signed, give that key too.",
            )
        return plain


def _info(said: DeclaredPath) -> PathInfo:
    """ValueError for what can't be."""
    info = PathInfo(
        path=StorePath.from_base_name(said.path),
        nar_hash=Hash.parse(said.nar_hash, "sha256"),
        nar_size=said.nar_size,
        references=tuple(StorePath.from_base_name(name) for name in said.references),
        deriver=None,
        signatures=tuple(said.signatures),
        ca=said.content_address,
    )
    # The one part of a manifest that a path's signature does not cover.
    if info.ca is not None and not ContentAddress.parse(info.ca).names(info.path, info.references):
        raise ContentAddressError(f"{info.ca} is not the content address of {info.path}")
    return info


def _content(path: DeclaredPath) -> tuple[str, int, list[str], str | None]:
    return path.nar_hash, path.nar_size, sorted(path.references), path.content_address


def _digest(root: str, paths: Mapping[str, DeclaredPath]) -> str:
    try:
        return manifest_digest(encode_manifest(make_manifest(root, paths)))
    except ClosureError as error:
        raise _refused(f"a closure that can't be put in order: {error}") from error


def _spelt(said: str, own: str) -> str:
    """A name as the hub spells it, if it is ours: names do not know case."""
    return said if said.lower() == own.lower() else own


def _refused(what: str, hint: str | None = None) -> AccessError:
    return AccessError(
        "unexpected-statement",
        f"The hub asks to sign {what}. Nothing was signed, and nothing is published.",
        hint=hint
        or "The hub, or something between it and this machine, asks for a signature that it must not get."
        " Tell the hub's operator.",
    )
