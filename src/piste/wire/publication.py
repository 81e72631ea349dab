"""Messages of a publication: open, declare paths and outputs, upload, sign, finish.

Upload body (`POST …/nars`), one or many NARs in one request, each as:
52 ASCII bytes nix32 SHA-256 of the NAR, 8 bytes little-endian length, then that many bytes of zstd.
A large body may be put in parts, of up to 32 MiB, instead: `PUT …/parts/NAME/0`, `1`, … and then
`POST …/nars?upload=NAME&parts=N` without a body; NAME is 8 to 32 hex digits.
"""

import msgspec


class Metadata(msgspec.Struct, frozen=True):
    """What a publisher says of a release."""

    description: str | None = None
    labels: list[str] = []
    license: str | None = None
    repository: str | None = None
    subdirectory: str | None = None
    revision: str | None = None  # 40 hex digits
    commit_count: int | None = None
    mirrored: bool = False  # published for somebody else, by whoever keeps a mirror


class OpenPublication(msgspec.Struct, frozen=True):
    """Open a publication of one version, or join the one that has the same `stage`."""

    version: str
    rolling: bool = False
    visibility: str | None = None  # must agree with the project's; None takes it as it is
    stage: str | None = None  # a name that several machines share; None is a publication of one machine
    metadata: Metadata = Metadata()


class Publication(msgspec.Struct, frozen=True):
    id: str
    organization: str
    project: str
    version: str
    stage: str | None
    expires_at: int
    upstreams: list[str]  # addresses; what they hold may be pinned instead of uploaded
    published: bool = False  # the version is published already; finishing compares
    publisher_keys: list[str] = []  # NAME:BASE64 of the keys that publishers hold
    hub_signs: bool = True  # False: a release needs the signatures of one of `publisher_keys`
    upstream_keys: dict[str, list[str]] = {}  # address -> NAME:BASE64, of `upstreams`


class DeclaredPath(msgspec.Struct, frozen=True):
    """A store path with all that Nix knows of it. Base names, without the store directory."""

    path: str
    nar_hash: str  # sha256:<nix32>
    nar_size: int
    references: list[str]
    deriver: str | None = None
    signatures: list[str] = []
    content_address: str | None = None
    upstream: str | None = None  # address of the upstream that holds it, one of `Publication.upstreams`
    upstream_narinfo: str | None = None  # its text as the upstream serves it


class DeclaredOutput(msgspec.Struct, frozen=True):
    """An output to record. `required`: the publication fails unless its whole closure is there."""

    attribute: str
    store_path: str
    system: str | None = None
    required: bool = True


class Declaration(msgspec.Struct, frozen=True):
    """Any part of a closure, in any order; several may follow one another."""

    paths: list[DeclaredPath] = []
    outputs: list[DeclaredOutput] = []


class Declared(msgspec.Struct, frozen=True):
    """The answer: base names of the paths whose NARs are to be uploaded; the rest is there or pinned."""

    missing: list[str]
    present: int
    pinned: int


class UploadedNars(msgspec.Struct, frozen=True):
    accepted: int
    nar_bytes: int
    file_bytes: int


class SignedText(msgspec.Struct, frozen=True):
    """A statement as the hub offered it, with the publisher's signatures."""

    text: str
    signatures: list[str]


class Finish(msgspec.Struct, frozen=True):
    """The end of a publication; empty where the hub alone signs. A publisher that signs names its keys, is
    answered with `Unsigned`, and finishes again with the signatures.
    """

    signing_keys: list[str] = []  # names
    statements: list[SignedText] = []


class Unsigned(msgspec.Struct, frozen=True):
    """The answer 202: nothing is visible yet, since these texts lack signatures. All speak of one number."""

    sequence: int
    statements: list[str]  # texts of `piste-statement-1`, see wire.statement


class Published(msgspec.Struct, frozen=True):
    """A visible release. `created` is false when the same content had been published before."""

    release_id: str
    organization: str
    project: str
    version: str
    created: bool
    visibility: str
    outputs: dict[str, str]  # attribute path -> store path, those available
    flakeref_at_least: str
    flakeref_exact: str
