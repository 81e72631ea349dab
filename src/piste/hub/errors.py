"""Every error that the hub answers with, and its HTTP status, in one table.

A reference that is not in the table can't be raised; each has its paragraph in docs/errors.md.
"""

from collections.abc import Mapping
from typing import Final

from piste.hub.access.records import Actor
from piste.lib.errors import PisteError

ERRORS: Final[Mapping[str, int]] = {
    # asking
    "bad-request": 400,
    "bad-name": 400,
    "bad-reference": 400,
    "bad-requirement": 400,
    "bad-trust": 400,
    "bad-version": 400,
    "body-too-large": 413,
    "body-stalled": 408,
    "internal-error": 500,
    "method-not-allowed": 405,
    "not-found": 404,  # also everything that the caller may not see
    "overloaded": 503,
    "storage-full": 507,
    # access
    "credential-as-user-name": 401,
    "credential-expired": 401,
    "credential-missing": 401,
    "credential-unknown": 401,
    "forbidden": 403,
    "identity-expired": 401,
    "identity-invalid": 401,
    "identity-not-trusted": 403,
    "identity-used": 401,
    "issuer-unreachable": 503,
    "requirement-not-allowed": 403,
    "too-many-requests": 429,
    "upload-address-invalid": 401,
    # organizations, projects, releases
    "already-exists": 409,
    "attribute-not-found": 404,
    "no-release-matches": 404,
    "output-not-available": 404,
    "project-ambiguous": 409,  # the credential should tell which project is meant, and does not
    "release-deleted": 410,
    "release-yanked": 410,
    "visibility-differs": 409,
    # keys
    "key-needed": 409,  # something would be left without a signature
    "publisher-holds-keys": 409,
    # publication
    "bad-nar": 422,
    "bad-path-info": 422,
    "bad-signature": 422,
    "bad-source": 422,
    "content-differs": 409,  # this version exists with other content
    "version-deleted": 409,
    "nar-mismatch": 422,  # hash or size are not those that were declared
    "output-incomplete": 409,  # paths of its closure are missing
    "path-conflict": 409,  # the organization holds other content under this path
    "publication-closed": 409,
    "push-incomplete": 409,  # paths that it declares, or refers to, are missing
    "signing-key-missing": 409,  # the hub can't sign for this organization
    "signing-key-unknown": 422,
    "undeclared-reference": 422,
    "upstream-not-trusted": 422,
}


class HubError(PisteError):
    """An error with a place in the table; `status` is the HTTP status that it is answered with.

    `reason` says why something was refused, and `actor` whose credential it was; they are for the audit log
    and never leave the hub."""

    def __init__(
        self,
        ref: str,
        message: str,
        *,
        hint: str | None = None,
        context: Mapping[str, str] | None = None,
        reason: str | None = None,
        actor: Actor | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(ref, message, hint=hint, context=context)
        self.status = ERRORS[ref]
        self.reason = reason
        self.actor = actor
        self.retry_after = retry_after  # seconds


def not_found(reason: str | None = None) -> HubError:
    """The answer for what is missing and for what the caller may not see: both are the same to the letter.
    `reason` is given where something was refused."""
    return HubError(
        "not-found",
        "There is nothing here that you may see.",
        hint="Check the spelling, and that you are logged in with a credential that may read it.",
        reason=reason,
    )
