"""Errors as FlakeHub's clients read them: a JSON string on one line, which they print as it is.

Must never be an array: `fh list` looks at the shape of a body alone, and takes an empty array for a result.
"""

from typing import Final

from starlette.responses import Response

from piste.hub.errors import HubError
from piste.hub.http import json_response

_THERE_ALREADY: Final = frozenset({"already-exists", "content-differs"})


def format_error(error: HubError, request_id: str) -> Response:
    """The sentence of an error and what to do about it, with its own status."""
    return _response(error, error.status)


def format_resolve_error(error: HubError, request_id: str) -> Response:
    """`fh resolve` has words for two statuses: 401 for whoever may not, 404 for whatever is not there."""
    match error.status:
        case 403:
            return _response(error, 401)
        case 400 | 409 | 410:
            return _response(error, 404)
        case status:
            return _response(error, status)


def format_push_error(error: HubError, request_id: str) -> Response:
    """`flakehub-push` shows the texts of 400 and 401 as notes of the run, and takes 409 for a version that is
    there already: nothing else may look like that.
    """
    match error.status:
        case 403:
            return _response(error, 401)
        case 409 if error.ref not in _THERE_ALREADY:
            return _response(error, 400)
        case 413 | 422:
            return _response(error, 400)
        case status:
            return _response(error, status)


def _response(error: HubError, status: int) -> Response:
    text = error.message if error.hint is None else f"{error.message} {error.hint}"
    response = json_response(" ".join(text.split()), status)
    if status == 401:
        response.headers.append("WWW-Authenticate", "Bearer")
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    return response
