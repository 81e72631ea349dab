"""Many NARs of a manifest in one answer: exactly those, in that order, and only of a manifest that is open to
whoever asks.
"""

import os

import pytest

from piste.lib.zstd import zstd
from tests.hub.process import Answer, Hub, wait_for
from tests.hub.publishing import Acme, chain
from tests.running.closures import ATTRIBUTE, Member, member


@pytest.fixture
def acme(shared_hub: Hub) -> Acme:
    return Acme(shared_hub)


@pytest.fixture
def closure(acme: Acme) -> list[Member]:
    made = chain("app", 5, content=os.urandom(1000))
    acme.publish("1.0.0", made)
    return made


def nars(acme: Acme, places: str, *, token: str | None = None, method: str = "GET") -> Answer:
    digest = acme.resolve("1").json()["manifest"].removeprefix("sha256:")
    path = f"{acme.cache}/manifest/{digest}/nars?places={places}"
    return acme.ask(method, path, token=token or acme.member)


def files(acme: Acme, members: list[Member]) -> list[bytes]:
    return [acme.ask("GET", f"{acme.cache}/nar/{each.nar_hash.base32}.nar.zst").body for each in members]


def test_the_files_follow_one_another_as_they_were_asked_for(acme: Acme, closure: list[Member]) -> None:
    each = files(acme, closure)
    assert [zstd.decompress(file) for file in each] == [path.nar for path in closure]
    assert nars(acme, "0-4").body == b"".join(each)
    answer = nars(acme, "4,0-1,3")
    assert answer.body == each[4] + each[0] + each[1] + each[3]
    assert answer.headers["content-length"] == str(len(answer.body))
    assert "private" in answer.headers["cache-control"]
    head = nars(acme, "4,0-1,3", method="HEAD")
    assert (head.body, head.headers["content-length"]) == (b"", str(len(answer.body)))


@pytest.mark.parametrize("places", ["", "x", "-1", "1-", "1,,2", "1,", "3-2", "%2e%2e", "0-512", "0-9999999"])
def test_places_that_can_t_be_meant_are_refused(acme: Acme, closure: list[Member], places: str) -> None:
    answer = nars(acme, places)
    assert (answer.status, answer.ref) == (400, "bad-request")


@pytest.mark.parametrize("places", ["5", "0-5", "9999999", "1,1", "0-2,2"])
def test_places_that_the_manifest_does_not_have_are_missing(
    acme: Acme, closure: list[Member], places: str
) -> None:
    assert nars(acme, places).status == 404


def test_a_closure_token_reads_the_bundles_of_its_own_manifest_alone(
    acme: Acme, closure: list[Member]
) -> None:
    other = chain("other", 3, content=os.urandom(100))
    filling = acme.open("1.1.0")
    filling.declare([*closure, *other], {ATTRIBUTE: closure[-1], "packages.x": other[-1]})
    filling.upload_missing(other)
    filling.source()
    assert filling.finish().status == 200
    foreign = acme.resolve("=1.1.0", "packages.x").json()["manifest"][7:]
    token = acme.resolve("=1.1.0").json()["token"]
    assert nars(acme, "0-4", token=token).body == b"".join(files(acme, closure))
    place = f"{acme.cache}/manifest/{foreign}/nars?places=0-1"
    assert acme.ask("GET", place).status == 200
    assert acme.ask("GET", place, token=token).status == 404
    stranger = Acme(acme.hub)
    refused, absent = (
        stranger.ask("GET", f"{acme.cache}/manifest/{digest}/nars?places=0") for digest in (foreign, "0" * 64)
    )
    assert refused.status == absent.status == 404
    assert refused.ref == absent.ref
    # The token does not open the same manifest at another project's address either.
    assert acme.ask("GET", f"{stranger.cache}/manifest/{foreign}/nars?places=0").status == 404


def test_small_files_and_large_ones_keep_their_order(acme: Acme) -> None:
    """Small ones are read, large ones leave by the kernel: on one connection, more than once."""
    made: list[Member] = []
    for number, size in enumerate((100, 900_000, 200, 300, 66_000, 2_000_000, 400)):
        content, below = os.urandom(size), [each.path for each in made[-1:]]
        made.append(member(f"mixed-{number}", (number, content), content, below))
    acme.publish("1.0.0", made)
    each = files(acme, made)
    digest = acme.resolve("1").json()["manifest"].removeprefix("sha256:")
    connection = acme.hub.connect()
    for places, wanted in (("0-6", each), ("5,0,1", [each[5], each[0], each[1]]), ("1", each[1:2])):
        path = f"{acme.cache}/manifest/{digest}/nars?places={places}"
        connection.request("GET", path, headers={"Authorization": f"Bearer {acme.member}"})
        answer = connection.getresponse()
        assert answer.getheader("content-length") == str(sum(map(len, wanted)))
        assert answer.read() == b"".join(wanted)
    connection.close()


def test_who_leaves_in_the_middle_is_logged_as_gone(acme: Acme) -> None:
    content = os.urandom(16_000_000)
    acme.publish("1.0.0", [member("large", content, content)])
    digest = acme.resolve("1").json()["manifest"].removeprefix("sha256:")
    connection = acme.hub.connect()
    headers = {"Authorization": f"Bearer {acme.member}", "X-Request-Id": "leaves"}
    connection.request("GET", f"{acme.cache}/manifest/{digest}/nars?places=0", headers=headers)
    assert len(connection.getresponse().read(1000)) == 1000
    connection.close()

    def statuses() -> list[int]:
        return [line["status"] for line in acme.hub.log_lines("request") if line["request_id"] == "leaves"]

    wait_for(statuses)
    assert statuses() == [499]
    assert nars(acme, "0").status == 200


def test_an_object_that_is_gone_is_missing_before_the_first_byte(acme: Acme, closure: list[Member]) -> None:
    name = f"{closure[2].nar_hash.base32}.nar.zst"
    (acme.hub.data / "objects/nar" / name[:2] / name).unlink()
    assert nars(acme, "0-4").status == 404
    assert nars(acme, "3-4").status == 200
