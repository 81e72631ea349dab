"""Limits: they hold over all processes, tell when to come back, and lock out nobody but who goes beyond."""

from collections.abc import Callable

import pytest

from piste.hub.access.limits import Limited, Limits, subscriber
from piste.hub.access.records import Actor, Kind, Permission
from piste.hub.access.token_text import make_token
from piste.hub.errors import HubError
from piste.hub.services import Services
from piste.hub.settings import RateLimits
from piste.lib.clock import SECOND
from tests.hub.conftest import RunWithServices
from tests.hub.process import Hub, wait_for
from tests.hub.publishing import Acme, chain

FEW = ("--failed-credentials", "8", "--sign-ins", "40", "--resolutions", "24")


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000 * SECOND

    def __call__(self) -> int:
        return self.now


def test_wrong_credentials_are_refused_with_the_time_to_come_back(make_hub: Callable[..., Hub]) -> None:
    hub = make_hub(*FEW)
    good = hub.admin

    def fails() -> bool:
        answer = hub.request("GET", "/api/v1/status", token=make_token(Kind.USER))
        assert answer.status in (401, 429)
        return answer.status == 429

    wait_for(fails)
    # In the first seconds of a minute the counts begin anew; then the answer is 401 once more.
    answer = hub.request("GET", "/api/v1/status", token=make_token(Kind.USER))
    if answer.status == 429:
        assert answer.ref == "too-many-requests"
        assert 1 <= int(answer.headers["retry-after"]) <= 60
    # Somebody at the same address with a good token notices nothing of it.
    assert hub.request("GET", "/api/v1/status", token=good).status == 200


def test_wrong_upload_addresses_are_held_up_like_wrong_credentials(make_hub: Callable[..., Hub]) -> None:
    hub = make_hub(*FEW)

    def put() -> int:
        answer = hub.request("PUT", "/upload-address/wrong", body=b"")
        assert answer.headers["x-request-id"]
        return answer.status

    statuses = [put() for _ in range(30)]
    assert set(statuses) == {401, 429}
    assert statuses.count(401) <= 2 * 8  # a minute may begin in between


def test_a_cache_goes_on_to_say_missing_where_nix_would_stop(make_hub: Callable[..., Hub]) -> None:
    hub = make_hub(*FEW)
    statuses = [
        hub.request("GET", f"/{'0' * 32}.narinfo", token=make_token(Kind.USER)).status for _ in range(30)
    ]
    assert set(statuses) == {401, 404}


def test_a_token_that_has_expired_is_told_so_however_often_it_asks(make_hub: Callable[..., Hub]) -> None:
    # A host that has many NARs on their way, or many hosts at one address, would else be told to wait, and
    # learn too late that another token is what they need.
    hub = make_hub(*FEW)
    token = hub.make_token(Acme(hub).organization, kind="device", expires_in=1)

    def ask(path: str) -> tuple[int, str | None]:
        answer = hub.request("GET", path, token=token)
        return answer.status, answer.ref if answer.status != 200 else None

    expired = (401, "credential-expired")
    wait_for(lambda: ask("/api/v1/status") == expired)
    asked = ("/api/v1/status", f"/{'0' * 32}.narinfo")
    assert {ask(path) for path in asked for _ in range(30)} == {expired}


def test_a_token_that_asks_too_often_is_alone_in_being_held_up(make_hub: Callable[..., Hub]) -> None:
    hub = make_hub(*FEW)
    acme = Acme(hub)
    closure = chain("app")
    acme.publish("1.0.0", closure)
    other = hub.make_token(acme.organization, kind="device")
    wait_for(lambda: acme.resolve("1").status == 429)
    assert acme.resolve("1", token=other).status == 200
    assert acme.narinfo(closure[0]).status == 200, "what has no limit"


def test_processes_count_together(make_hub: Callable[..., Hub], database_url: str | None) -> None:
    hubs = [make_hub(*FEW, database=database_url)]
    hubs.append(make_hub(*FEW, data=hubs[0].data, database=database_url))
    acme = Acme(hubs[0])
    acme.publish("1.0.0", chain("app"))
    wait_for(lambda: acme.resolve("1").status == 429)

    def second_too() -> bool:
        # What the second has let through since it began to share is far below its own limit.
        return hubs[1].request("GET", f"{acme.base}/resolve/1/x", token=acme.member).status == 429

    for _ in range(10):
        second_too()
    wait_for(second_too)


def test_counts_of_two_processes_add_up(with_services: RunWithServices[None]) -> None:
    async def count(services: Services) -> None:
        clock = Clock()
        rates = RateLimits(failed_credentials=80)
        one, two = (Limits(services.database, clock, rates) for _ in range(2))
        for _ in range(40):
            one.count_failure("192.0.2.1")
            two.count_failure("192.0.2.1")
        for limits in (one, two, one):
            await limits.share()
        for limits in (one, two):
            with pytest.raises(HubError) as caught:
                limits.count_failure("192.0.2.1")
            assert caught.value.retry_after == 60
            limits.count_failure("192.0.2.2")
        clock.now += 60 * SECOND
        one.count_failure("192.0.2.1")

    with_services(count)


def test_what_is_far_from_its_limit_costs_no_write(with_services: RunWithServices[None]) -> None:
    async def count(services: Services) -> None:
        limits = Limits(services.database, Clock(), RateLimits())
        for number in range(1000):
            limits.count(Limited.RESOLUTION, f"token {number}")
        await limits.share()
        assert await services.database.all("SELECT * FROM rate_window") == []

    with_services(count)


def test_a_token_counts_for_itself_and_nobody_for_the_address(with_services: RunWithServices[None]) -> None:
    async def count(services: Services) -> None:
        limits = Limits(services.database, Clock(), RateLimits(resolutions=2))
        device = Actor(kind=Kind.DEVICE, token="t")
        for actor in (device, Actor()):
            for _ in range(2):
                limits.check(Permission.OUTPUT_RESOLVE, actor, "192.0.2.1")
            with pytest.raises(HubError):
                limits.check(Permission.OUTPUT_RESOLVE, actor, "192.0.2.1")
        limits.check(Permission.CACHE_READ, device, "192.0.2.1")

    with_services(count)


def test_memory_is_bounded_by_counting_latecomers_together(with_services: RunWithServices[None]) -> None:
    async def count(services: Services) -> None:
        limits = Limits(services.database, Clock(), RateLimits(failed_credentials=10))
        for number in range(100_000):
            limits.count(Limited.FAILED_CREDENTIALS, str(number))
        with pytest.raises(HubError):
            for number in range(20):
                limits.count(Limited.FAILED_CREDENTIALS, f"late {number}")
        limits.count(Limited.FAILED_CREDENTIALS, "7")

    with_services(count)


@pytest.mark.parametrize(
    ("address", "stands_for"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("no address", "no address"),
    ],
)
def test_an_address_stands_for_a_subscriber(address: str, stands_for: str) -> None:
    assert subscriber(address) == stands_for
