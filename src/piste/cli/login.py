"""`piste login`, `logout`, `status`: who is speaking with which hub."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from piste.cli import show
from piste.cli.options import Hub, Json, TokenFile, connect
from piste.client import credentials, nix_settings
from piste.client.address import HubAddress, parse_address, require_safe
from piste.client.api import HubClient
from piste.lib.errors import AccessError, PisteError, UsageError
from piste.nix.signature import PublicKey, SignatureKeyError
from piste.wire.organizations import Status

Word = Annotated[
    str | None,
    Parameter(help="The word `token` may follow, as in other tools; it changes nothing."),
]
TrustedKeys = Annotated[
    list[str] | None,
    Parameter(name="--trusted-key", negative="", help="NAME:BASE64 that this host believes; repeatable."),
]


def login(
    word: Word = None,
    /,
    *,
    hub: Hub = None,
    token_file: TokenFile = None,
    trusted_key: TrustedKeys = None,
    as_json: Json = False,
) -> None:
    """Log in to a hub: check a token, and keep it for the commands to come.

    The token is asked for, or read from --token-file, PISTE_TOKEN_FILE or PISTE_TOKEN; it is never
    an argument. It is kept in a file that only this user reads. For a person or a device, Nix learns
    the hub too: its netrc and nix.conf are merged, never overwritten. For a resolve-only token neither is
    written; the keys of its organization are kept, and a host believes those from then on. To fix
    them beforehand, give --trusted-key.

    For example:

        piste login --hub https://hub.example.org

        piste login token --token-file /run/secrets/piste --hub https://hub.example.org
    """
    _check_word(word)
    address = credentials.find_credential(hub, token_file).address
    require_safe(address)
    token = credentials.find_token(token_file) or _ask_for_token(address)
    with HubClient(credentials.Credential(address, token)) as client:
        answer = client.status()
    if not answer.logged_in:
        raise AccessError("credential-unknown", f"{address.url} does not know this token.")
    keys = _keys_to_trust(answer, trusted_key or [])
    written = _teach_nix(address, token, answer, keys)
    stored = credentials.Login(
        address.url, token, answer.kind, answer.organizations, trusted_public_keys=keys
    )
    show.say(f"The token is kept in {credentials.write_login(stored)}.")
    for path in written:
        show.say(f"Nix knows the hub from {path}.")
    if answer.kind != "resolve-only" and nix_settings.is_shared(nix_settings.nix_conf()):
        show.say("Nix was not given the token: its daemon would use it for every user of this machine.")
    if answer.kind == "resolve-only":
        for organization, believed in keys.items():
            for key in believed:
                show.say(f"This host believes the key {key} of {organization}.")
    _show_status(answer, address.url, as_json)


def logout() -> None:
    """Forget the stored login, and take the hub's line out of Nix's netrc.

    The token itself stays valid: `piste token revoke` ends it.
    """
    stored = credentials.read_login()
    if stored is None:
        show.say("There was no login.")
        return
    for path in nix_settings.forget(parse_address(stored.hub), stored.token):
        show.say(f"The token was taken out of {path}.")
    credentials.delete_login()
    show.say(f"Logged out of {stored.hub}.")


def status(*, hub: Hub = None, token_file: TokenFile = None, as_json: Json = False) -> None:
    """Say whether you are logged in, as whom, and for which organizations.

    Ends with 6 when the hub refuses the token, and with 4 when the hub can't be reached.

    For example:

        piste status

        piste status --json | jq -r .user
    """
    with connect(hub, token_file) as client:
        nobody = Status(logged_in=False, user=None, kind=None, organizations=[], expires_at=None)
        if not client.logged_in:
            _show_status(nobody, client.url, as_json)
            show.say(f"No token is stored for {client.url}: `piste login` stores one.")
            return
        try:
            answer = client.status()
        except AccessError:
            _show_status(nobody, client.url, as_json)
            raise
    _show_status(answer, client.url, as_json)


def _check_word(word: str | None) -> None:
    if word not in (None, "token"):
        raise UsageError(
            "token-in-argument",
            "A token is never an argument, since every user of this machine can read those.",
            hint="Give --token-file FILE, or let the command ask. Revoke the token if it was a real one.",
        )


def _ask_for_token(address: HubAddress) -> str:
    text = show.ask_secret(f"Token for {address.url}: ")
    if text is None:
        raise UsageError(
            "token-missing",
            "There is no terminal to ask for the token at.",
            hint="Give --token-file FILE, or set PISTE_TOKEN_FILE.",
        )
    return credentials.check_token(text, "The answer")


def _keys_to_trust(answer: Status, given: list[str]) -> dict[str, list[str]]:
    """The organizations' keys as the hub says them, or the given ones if the hub does not say others."""
    if not given:
        return answer.public_keys
    wanted = sorted(str(_parse_key(text)) for text in given)
    for organization, keys in answer.public_keys.items():
        unknown = sorted(set(keys) - set(wanted))
        if unknown:
            raise PisteError(
                "key-differs",
                f"The hub says that {organization} signs with {', '.join(unknown)}, "
                "which --trusted-key does not name. Nothing was stored.",
                hint="Ask the organization's admin which key is right, by another way than the hub.",
            )
    return dict.fromkeys(answer.public_keys, wanted)


def _parse_key(text: str) -> PublicKey:
    try:
        return PublicKey.parse(text)
    except SignatureKeyError as error:
        raise UsageError("bad-key", f"{text!r}: {error}.") from error


def _teach_nix(address: HubAddress, token: str, answer: Status, keys: dict[str, list[str]]) -> list[Path]:
    if answer.kind == "resolve-only":
        return []
    flat = [key for believed in keys.values() for key in believed]
    return nix_settings.teach(address, token, flat)


def _show_status(answer: Status, hub: str, as_json: bool) -> None:
    if as_json:
        names = ("logged_in", "user", "organizations", "kind", "expires_at")
        show.data({"hub": hub} | {name: getattr(answer, name) for name in names})
        return
    show.line(f"Logged in: {'true' if answer.logged_in else 'false'}")
    if not answer.logged_in:
        return
    show.line(f"User: {answer.user}")
    show.line(f"Organizations: {', '.join(answer.organizations)}".rstrip())
    show.line(f"Hub: {hub}")
    show.line(f"Kind: {answer.kind}")
    if answer.expires_at is not None:
        show.line(f"Expires: {show.moment(answer.expires_at)}")
