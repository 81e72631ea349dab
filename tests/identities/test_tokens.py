"""Identities that a real OpenID provider minted: which count, over rotations and outages, which never."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from piste.hub.access.queries import organization_by_name
from piste.hub.access.records import Organization
from piste.hub.errors import HubError
from piste.hub.identities import issuers, queries
from piste.hub.identities.records import Identity, TrustRule
from piste.hub.identities.tokens import SKEW
from piste.hub.organizations.queries import add_organization
from piste.hub.services import Services
from piste.lib.clock import HOUR, MINUTE, SECOND
from tests.identities.conftest import CLAIMS, MovingClock, RunWithServices
from tests.identities.openid import Provider


async def trust(services: Services, issuer: str) -> None:
    """Some rule names the issuer."""
    if await queries.is_trusted_issuer(services.database, issuer):
        return
    async with services.database.transaction() as connection:
        if await organization_by_name(services.database, "acme") is None:
            await add_organization(connection, Organization("o", "acme", 1))
        await queries.add_rule(
            connection,
            TrustRule(
                id=hashlib.sha256(issuer.encode()).hexdigest(),
                organization="o",
                project=None,
                project_name="web",
                issuer=issuer,
                audience="127.0.0.1",
                claims='{"repository_id":["123"]}',
                created_by=None,
                created_at=1,
            ),
        )


def refused(call: RunWithServices[Any], provider: Provider, token: str) -> HubError:
    """Verifying a token in new services has to fail; the error."""

    async def work(services: Services) -> HubError:
        await trust(services, provider.issuer)
        with pytest.raises(HubError) as caught:
            await services.identities.verify(token)
        return caught.value

    found: HubError = call(work)
    return found


def encode(part: Mapping[str, Any] | bytes) -> str:
    data = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decoded(token: str, place: int) -> dict[str, Any]:
    part = token.split(".")[place]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


def test_an_identity_of_the_provider_counts(provider: Provider, with_services: RunWithServices[None]) -> None:
    token = provider.mint()

    async def work(services: Services) -> None:
        await trust(services, provider.issuer)
        identity: Identity = await services.identities.verify(token)
        assert (identity.issuer, identity.subject) == (provider.issuer, CLAIMS["sub"])
        assert identity.audience == ("127.0.0.1",)
        assert identity.claims["repository_id"] == "123"
        assert "exp" not in identity.claims

    with_services(work)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_keys_may_be_rotated_at_any_time(
    provider: Provider, with_services: RunWithServices[None], clock: MovingClock, algorithm: str
) -> None:
    async def work(services: Services) -> None:
        await trust(services, provider.issuer)
        before = provider.mint()
        await services.identities.verify(before)
        provider.tell("rotate", algorithm=algorithm, kid="second")
        await services.identities.verify(provider.mint())
        # The key that signed `before` is gone, and so is all that it signed.
        with pytest.raises(HubError) as caught:
            await services.identities.verify(before)
        assert caught.value.ref == "identity-invalid"
        clock.ahead += issuers.UNKNOWN_PAUSE
        provider.tell("rotate", algorithm="RS256", kid="third")
        await services.identities.verify(provider.mint())

    with_services(work)


def test_names_that_no_key_has_get_the_issuer_asked_no_more_than_once_in_a_while(
    provider: Provider, with_services: RunWithServices[None], clock: MovingClock
) -> None:
    """Else anybody could have the hub ask it a thousand times a second."""

    async def work(services: Services) -> None:
        await trust(services, provider.issuer)
        await services.identities.verify(provider.mint())
        _, *rest = provider.mint().split(".")
        forged = ".".join([encode({"alg": "RS256", "kid": "nobody's"}), *rest])
        for _ in range(3):
            with pytest.raises(HubError):
                await services.identities.verify(forged)
        provider.tell("rotate", algorithm="RS256", kid="second")
        with pytest.raises(HubError):
            await services.identities.verify(provider.mint())
        clock.ahead += issuers.UNKNOWN_PAUSE
        await services.identities.verify(provider.mint())

    with_services(work)


def test_what_an_issuer_said_holds_between_a_floor_and_a_ceiling() -> None:
    assert issuers.lifetime("") == HOUR
    assert issuers.lifetime("public, max-age=0") == issuers.FLOOR
    assert issuers.lifetime("max-age=1800") == 30 * MINUTE
    assert issuers.lifetime("Max-Age=999999999") == issuers.CEILING
    assert issuers.lifetime("s-max-age=1, xmax-age=2") == HOUR


def test_an_issuer_that_is_down_is_not_waited_for_twice_and_its_keys_hold_meanwhile(
    provider: Provider, with_services: RunWithServices[None], clock: MovingClock
) -> None:
    token = provider.mint(exp=int(time.time()) + 20 * 3600)

    async def work(services: Services) -> None:
        await trust(services, provider.issuer)
        await services.identities.verify(token)
        provider.close()
        clock.ahead += issuers.CEILING
        await services.identities.verify(token)
        clock.ahead += issuers.OUTAGE - issuers.CEILING
        with pytest.raises(HubError) as caught:
            await services.identities.verify(token)
        assert caught.value.ref == "issuer-unreachable"

    with_services(work)


def test_an_issuer_that_says_nothing_costs_seconds_once_for_all_who_wait(
    provider: Provider, with_services: RunWithServices[None]
) -> None:
    token = provider.mint()
    provider.tell("silence")

    async def work(services: Services) -> None:
        await trust(services, provider.issuer)
        started = time.monotonic()
        answers = await asyncio.gather(
            *(services.identities.verify(token) for _ in range(20)), return_exceptions=True
        )
        assert time.monotonic() - started < 9
        with pytest.raises(HubError):
            await services.identities.verify(token)
        assert time.monotonic() - started < 9
        assert {error.ref for error in answers if isinstance(error, HubError)} == {"issuer-unreachable"}

    with_services(work)


@pytest.mark.parametrize("misbehaviour", [("redirect", {"to": "https://localhost/"}), ("flood", {})])
def test_an_issuer_that_redirects_or_floods_is_not_believed(
    provider: Provider, with_services: RunWithServices[None], misbehaviour: tuple[str, dict[str, Any]]
) -> None:
    token = provider.mint()
    provider.tell(misbehaviour[0], **misbehaviour[1])
    assert refused(with_services, provider, token).ref == "issuer-unreachable"


def test_an_issuer_that_no_rule_names_is_never_asked(
    provider: Provider, with_services: RunWithServices[None]
) -> None:
    token = provider.mint()

    async def work(services: Services) -> None:
        await trust(services, provider.issuer + "/other")
        with pytest.raises(HubError) as caught:
            await services.identities.verify(token)
        assert caught.value.ref == "identity-invalid"

    provider.tell("silence")  # being asked would take five seconds
    started = time.monotonic()
    with_services(work)
    assert time.monotonic() - started < 4


def test_a_document_that_speaks_of_another_issuer_is_not_believed(
    provider: Provider, with_services: RunWithServices[None]
) -> None:
    other = provider.issuer + "/"
    token = provider.mint(iss=other)

    async def work(services: Services) -> None:
        await trust(services, other)
        with pytest.raises(HubError) as caught:
            await services.identities.verify(token)
        assert caught.value.ref == "issuer-unreachable"

    with_services(work)


NOW = int(time.time())
WRONG_CLAIMS: list[tuple[str, dict[str, Any], str]] = [
    ("expired", {"exp": NOW - SKEW - 1, "iat": NOW - 300}, "identity-expired"),
    ("not issued yet", {"iat": NOW + 3600, "exp": NOW + 7200}, "identity-invalid"),
    ("not valid yet", {"nbf": NOW + 3600}, "identity-invalid"),
    ("for too long", {"exp": NOW + 90_000}, "identity-invalid"),
    ("ended before it began", {"exp": NOW + 100, "iat": NOW + 200}, "identity-invalid"),
    ("exp is a text", {"exp": str(NOW + 300)}, "identity-invalid"),
    ("exp is true", {"exp": True}, "identity-invalid"),
    ("exp is null", {"exp": None}, "identity-invalid"),
    ("exp is huge", {"exp": 10**300}, "identity-invalid"),
    ("exp is negative", {"exp": -1, "iat": -2}, "identity-invalid"),
    ("iat is a list", {"iat": [NOW]}, "identity-invalid"),
    ("nbf is a text", {"nbf": "now"}, "identity-invalid"),
    ("iss is a list", {"iss": ["https://ci.example.org"]}, "identity-invalid"),
    ("iss is another", {"iss": "https://ci.example.org"}, "identity-invalid"),
    ("sub is a number", {"sub": 1}, "identity-invalid"),
    ("sub is empty", {"sub": ""}, "identity-invalid"),
    ("sub has control characters", {"sub": "repo:acme/web\x1b[2J"}, "identity-invalid"),
    ("aud is an object", {"aud": {"a": "b"}}, "identity-invalid"),
    ("aud is a list of numbers", {"aud": [1]}, "identity-invalid"),
    ("aud is very long", {"aud": ["a"] * 100}, "identity-invalid"),
    ("jti is a number", {"jti": 7}, "identity-invalid"),
    ("jti is empty", {"jti": ""}, "identity-invalid"),
]


@pytest.mark.parametrize(
    ("claims", "ref"), [row[1:] for row in WRONG_CLAIMS], ids=[row[0] for row in WRONG_CLAIMS]
)
def test_an_identity_does_not_count_when(
    provider: Provider, with_services: RunWithServices[None], claims: dict[str, Any], ref: str
) -> None:
    assert refused(with_services, provider, provider.mint(**claims)).ref == ref


@pytest.mark.parametrize("name", ["exp", "iss", "sub"])
def test_an_identity_does_not_count_without(
    provider: Provider, with_services: RunWithServices[None], name: str
) -> None:
    assert refused(with_services, provider, provider.mint(without=[name])).ref == "identity-invalid"


def test_clocks_may_differ_by_half_a_minute_and_no_more(
    provider: Provider, with_services: RunWithServices[None], clock: MovingClock
) -> None:
    token = provider.mint()
    ends = decoded(token, 1)["exp"]

    async def work(services: Services) -> None:
        await trust(services, provider.issuer)
        clock.ahead = (ends - time.time_ns() // 10**9) * SECOND + (SKEW - 5) * SECOND
        await services.identities.verify(token)
        clock.ahead += 10 * SECOND
        with pytest.raises(HubError) as caught:
            await services.identities.verify(token)
        assert caught.value.ref == "identity-expired"
        clock.ahead = -(SKEW - 10) * SECOND
        await services.identities.verify(provider.mint())
        clock.ahead = -(SKEW + 10) * SECOND
        with pytest.raises(HubError):
            await services.identities.verify(provider.mint())

    with_services(work)


def test_a_token_of_another_type_does_not_count(
    provider: Provider, with_services: RunWithServices[None]
) -> None:
    """An access token of the same issuer is no identity; nothing that must be understood is."""
    for kind in ("at+jwt", "logout+jwt", ""):
        assert refused(with_services, provider, provider.mint(header={"typ": kind})).ref == "identity-invalid"
    _, payload, signature = provider.mint().split(".")
    for critical in (["b64"], [], "exp"):
        header = encode({"alg": "RS256", "kid": "first", "crit": critical, "b64": False})
        assert refused(with_services, provider, f"{header}.{payload}.{signature}").ref == "identity-invalid"


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", "HS256", "ES256", "PS256", "RS512", "dir"])
def test_an_algorithm_that_the_key_is_not_for_does_not_count(
    provider: Provider, with_services: RunWithServices[None], algorithm: str
) -> None:
    """alg=none, and the algorithms that other verifiers have confused."""
    _, payload, signature = provider.mint().split(".")
    header = encode({"alg": algorithm, "kid": "first", "typ": "JWT"})
    for forged in (f"{header}.{payload}.{signature}", f"{header}.{payload}."):
        assert refused(with_services, provider, forged).ref == "identity-invalid"


def test_the_public_key_is_no_shared_secret(
    provider: Provider, with_services: RunWithServices[None], clock: MovingClock
) -> None:
    """HS256 with the published key as its secret, which a verifier that trusts the header would accept."""

    async def work(services: Services) -> None:
        await trust(services, provider.issuer)
        await services.identities.verify(provider.mint())
        document = await services.egress.fetch(provider.issuer + "/jwks")
        (key,) = json.loads(document.body)["keys"]
        payload = provider.mint().split(".")[1]
        public = await services.identities._issuers.key(provider.issuer, "first", "RS256")
        assert public is not None
        for secret in (public.as_pem(private=False), json.dumps(key).encode(), key["n"].encode()):
            head = encode({"alg": "HS256", "kid": "first", "typ": "JWT"})
            signature = hmac.digest(secret, f"{head}.{payload}".encode(), "sha256")
            with pytest.raises(HubError) as caught:
                await services.identities.verify(f"{head}.{payload}.{encode(signature)}")
            assert caught.value.ref == "identity-invalid"

    with_services(work)


def test_what_was_signed_can_t_be_changed(provider: Provider, with_services: RunWithServices[None]) -> None:
    token = provider.mint()
    header, payload, signature = token.split(".")
    other = encode(decoded(token, 1) | {"repository_id": "124"})
    for forged in (
        f"{header}.{other}.{signature}",
        f"{header}.{payload}.{signature[:-4]}AAAA",
        f"{header}.{payload}.{provider.mint(x='y').split('.')[2]}",
    ):
        assert refused(with_services, provider, forged).ref == "identity-invalid"


def test_no_key_in_a_header_is_used_and_no_address_there_is_asked(
    provider: Provider, with_services: RunWithServices[None]
) -> None:
    """`jwk`, `jku` and `x5u`: whoever signs may name a key of its own."""
    own = json.loads(
        json.dumps({"kty": "oct", "k": encode(b"k" * 32), "kid": "first", "alg": "HS256", "use": "sig"})
    )
    payload = provider.mint().split(".")[1]
    for more in ({"jwk": own}, {"jku": "https://localhost:1/"}, {"x5u": "https://localhost:1/"}):
        head = encode({"alg": "HS256", "kid": "first", "typ": "JWT", **more})
        signature = hmac.digest(b"k" * 32, f"{head}.{payload}".encode(), "sha256")
        forged = f"{head}.{payload}.{encode(signature)}"
        assert refused(with_services, provider, forged).ref == "identity-invalid"


def test_a_weak_key_is_not_taken() -> None:
    found = issuers._key(json_raw({"kty": "RSA", "kid": "k", "n": encode(b"\xff" * 128), "e": "AQAB"}))
    assert found is None


@pytest.mark.parametrize(
    "key",
    [
        {"kty": "oct", "kid": "k", "k": "AAAA"},
        {"kty": "RSA", "kid": "k", "use": "enc", "n": encode(b"\xff" * 256), "e": "AQAB"},
        {"kty": "RSA", "kid": "k", "n": encode(b"\xff" * 256), "e": "AQAB", "d": "AQAB"},
        {"kty": "RSA", "kid": "k", "n": encode(b"\xff" * 4096), "e": "AQAB"},
        {"kty": "RSA", "n": encode(b"\xff" * 256), "e": "AQAB"},
        {"kty": "RSA", "kid": "k", "n": "!" * 342, "e": "AQAB"},
        {"kty": "EC", "kid": "k", "crv": "secp256k1", "x": "AA", "y": "AA"},
        {"kty": "EC", "kid": "k", "crv": "P-256", "x": "AA", "y": "AA"},
        {"kty": 7, "kid": "k"},
        {"kty": "OKP", "kid": "k", "crv": "X25519", "x": encode(b"x" * 32)},
        [],
        None,
    ],
)
def test_a_key_that_can_t_be_used_is_left_out(key: object) -> None:
    assert issuers._key(json_raw(key)) is None


@pytest.mark.parametrize(
    "token",
    [
        "",
        "a.b",
        "a.b.c.d",
        "..",
        "a..c",
        "é.é.é",
        "!.!.!",
        encode(b"[" * 5000) + "." + encode(b"[" * 5000) + ".AAAA",
        encode(b"\xff\xfe") + "." + encode(b"{}") + ".AAAA",
        encode({"alg": "RS256"}) + "." + encode({}) + ".AAAA",
        encode({"alg": ["RS256"], "kid": "first"}) + "." + encode({}) + ".AAAA",
        "A" * 20_000,
    ],
)
def test_what_is_no_identity_is_refused(
    provider: Provider, with_services: RunWithServices[None], token: str
) -> None:
    assert refused(with_services, provider, token).ref == "identity-invalid"


def test_an_identity_without_a_number_is_known_again_by_what_was_signed(
    provider: Provider, with_services: RunWithServices[None]
) -> None:
    async def work(services: Services) -> None:
        await trust(services, provider.issuer)
        first, second = provider.mint(without=["jti"]), provider.mint(without=["jti"], run_id="2")
        uses = [(await services.identities.verify(token)).use for token in (first, first, second)]
        assert uses[0] == uses[1] != uses[2]
        named = [provider.mint(jti="one"), provider.mint(jti="one", run_id="2")]
        assert len({(await services.identities.verify(token)).use for token in named}) == 1

    with_services(work)


def json_raw(value: object) -> Any:
    return msgspec.Raw(msgspec.json.encode(value))
