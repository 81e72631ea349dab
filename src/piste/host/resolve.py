"""Stage 1, received → authorised: ask the hub what a reference means, and believe only what a trusted key
signed.

Refuses an answer that its statement does not cover, one that is older than what this host has committed
(unless an exact version was asked for), and one for another type of machine, before anything is downloaded.
"""

import os
from collections.abc import Iterable, Iterator
from typing import Final

from piste.client.api import HubClient
from piste.client.credentials import Login, read_login
from piste.host.place import Host, default_attribute, system_type
from piste.host.records import Authorised, Deployment, Kind, Result
from piste.lib.errors import AccessError, PisteError, UsageError
from piste.nix.flake_ref import FlakeRefError, Reference, format_attribute_path, parse_reference
from piste.nix.signature import PublicKey, SignatureKeyError, verify_any
from piste.nix.store_path import StorePath, StorePathError
from piste.nixcmd.settings import trusted_public_keys
from piste.semver.requirement import Requirement, RequirementError, exact_version, strip_url_form
from piste.semver.version import Version, VersionError
from piste.wire.resolution import Resolution
from piste.wire.statement import Statement, StatementError, decode_statement

KEYS_VARIABLE = "PISTE_TRUSTED_PUBLIC_KEYS"
# What the hub says of a release that could be had a moment ago.
_WITHDRAWN: Final = frozenset(("no-release-matches", "not-found", "release-yanked"))


def read_reference(text: str, hub_url: str, kind: Kind | None = None) -> Reference:
    """The reference that was typed; without `#` it gets the default attribute of its kind, if it has one."""
    try:
        reference = parse_reference(text, hub_url)
    except FlakeRefError as error:
        raise UsageError("bad-reference", f"{str(error)[:1].upper()}{str(error)[1:]}.") from error
    if reference.attribute:
        return reference
    if kind is None:
        raise UsageError(
            "attribute-missing",
            f"{text!r} does not say which output is meant.",
            hint=f"Name it after a #, for example {text}#nixosConfigurations.web; `piste list outputs"
            f" {text}` lists them.",
        )
    attribute = default_attribute(kind)
    return Reference(reference.organization, reference.project, reference.requirement, attribute)


def authorise(
    resolution: Resolution,
    host: Host,
    reference: Reference,
    history: Iterable[Deployment],
    *,
    exact: bool | None = None,
) -> Authorised:
    """Check all of the hub's answer that can be checked before the download."""
    statement, key = _verified(resolution, host)
    _agree(resolution, statement)
    _answers(reference, statement)
    asked_exactly = exact_version(reference.requirement) is not None if exact is None else exact
    authorised = Authorised(resolution, statement, key.name, asked_exactly)
    if not asked_exactly:
        _not_older(statement, history)
    _right_machine(resolution)
    return authorised


def renewed(hub: HubClient, host: Host, authorised: Authorised) -> Authorised:
    """The same version again, for a new token: the old one has expired in the middle of a download."""
    old = authorised.resolution
    try:
        resolution = hub.resolve(
            old.organization, old.project, f"={old.version}", old.attribute_path, token=True
        )
    except PisteError as error:
        if error.ref not in _WITHDRAWN:
            raise
        raise AccessError(
            error.ref,
            f"{error.message} It was withdrawn while it was being fetched.",
            hint=error.hint,
            context=error.context,
        ) from error
    statement, key = _verified(resolution, host)
    _agree(resolution, statement)
    if (resolution.store_path, resolution.manifest) != (old.store_path, old.manifest):
        raise PisteError(
            "release-changed",
            f"{old.reference} is now {resolution.store_path}, and was {old.store_path} when the download"
            " began.",
            hint="A release never changes. Ask the hub's operator what happened before trying again.",
        )
    return Authorised(resolution, statement, key.name, exact=True)


def trusted_keys(organization: str, host: Host) -> Iterator[PublicKey]:
    """The keys that may vouch for an organization: pinned at login, in the environment, in nix.conf."""
    yield from granted_keys(organization)
    # Last, since it takes a process to know.
    yield from _parsed(trusted_public_keys(host.store), "nix.conf")


def granted_keys(organization: str) -> Iterator[PublicKey]:
    """Those of them that Nix does not know by itself."""
    yield from _parsed(_pinned(read_login(), organization), "the login")
    yield from _parsed(os.environ.get(KEYS_VARIABLE, "").split(), KEYS_VARIABLE)


def _pinned(login: Login | None, organization: str) -> list[str]:
    """A key that was pinned for one organization says nothing about another. Names do not know case."""
    if login is None:
        return []
    pinned = login.trusted_public_keys.items()
    return [key for name, keys in pinned if name.lower() == organization.lower() for key in keys]


def _parsed(texts: Iterable[str], source: str) -> Iterator[PublicKey]:
    for text in texts:
        try:
            yield PublicKey.parse(text)
        except SignatureKeyError as error:
            raise UsageError("bad-trusted-key", f"A key in {source} can't be used: {error}.") from error


def _verified(resolution: Resolution, host: Host) -> tuple[Statement, PublicKey]:
    keys = trusted_keys(resolution.organization, host)
    key = verify_any(keys, resolution.statement, resolution.statement_signatures)
    if key is None:
        names = sorted({text.partition(":")[0] for text in resolution.statement_signatures})
        raise AccessError(
            "untrusted-statement",
            f"No key that this host trusts has signed {resolution.reference}. It is signed by"
            f" {', '.join(names) or 'nobody'}.",
            hint="Get the organization's public key from its admin (`piste hub public-key`), and log in with"
            f" --trusted-key NAME:BASE64, or set {KEYS_VARIABLE}.",
        )
    try:
        return decode_statement(resolution.statement), key
    except StatementError as error:
        raise PisteError("bad-statement", f"The hub's answer can't be used: {error}.") from error


def _agree(resolution: Resolution, statement: Statement) -> None:
    """What is signed is what counts: every word of the answer has to be in it."""
    names = ("organization", "project", "version", "attribute_path", "store_path", "system", "manifest")
    differing = [name for name in names if getattr(resolution, name) != getattr(statement, name)]
    if differing:
        raise AccessError(
            "statement-differs",
            f"The hub's answer and the signed statement do not agree on {', '.join(differing)}.",
            hint="The hub, or something between it and this host, changed the answer. Nothing was"
            " downloaded.",
        )
    try:
        StorePath.parse(statement.store_path)
    except StorePathError as error:
        raise PisteError("bad-statement", f"The statement names no store path: {error}.") from error


def _answers(reference: Reference, statement: Statement) -> None:
    """An organization signs all its releases: a genuine statement about another must not pass for this."""
    asked = f"{reference.organization}/{reference.project}".lower()
    told = f"{statement.organization}/{statement.project}".lower()
    try:
        # As the hub reads it, which also takes the forms that stand in addresses.
        wanted = Requirement.parse(strip_url_form(reference.requirement))
        fits = wanted.matches(Version.parse(statement.version))
    except (RequirementError, VersionError) as error:
        raise PisteError("bad-statement", f"The hub's answer can't be used: {error}.") from error
    if asked != told or format_attribute_path(reference.attribute) != statement.attribute_path or not fits:
        raise AccessError(
            "statement-differs",
            f"The hub answered {reference} with {statement.organization}/{statement.project}"
            f"/={statement.version}#{statement.attribute_path}, which is something else.",
            hint="The hub, or something between it and this host, changed the answer. Nothing was"
            " downloaded.",
        )


def _not_older(statement: Statement, history: Iterable[Deployment]) -> None:
    project = (statement.organization.lower(), statement.project.lower())
    for past in history:
        if past.result is not Result.COMMITTED or past.sequence is None:
            continue
        if (str(past.organization).lower(), str(past.project).lower()) != project:
            continue
        if statement.sequence < past.sequence:
            raise PisteError(
                "older-than-committed",
                f"The hub offers {statement.version} of {statement.organization}/{statement.project}, which"
                " was published"
                f" before {past.version}, the release that this host has committed.",
                hint=f"To go back on purpose, ask for it exactly: ={statement.version}, or use `piste"
                " rollback`.",
            )
        return


def _right_machine(resolution: Resolution) -> None:
    here = system_type()
    if resolution.system is None or resolution.system == here:
        return
    if (here, resolution.system) == ("x86_64-linux", "i686-linux"):
        return
    raise UsageError(
        "wrong-system",
        f"{resolution.reference} is for {resolution.system}, and this machine is {here}.",
        hint="Name the output that was built for this machine; `piste list outputs` shows them with their"
        " systems.",
    )
