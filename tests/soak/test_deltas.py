"""The hub makes deltas of large NARs in little memory, and goes on answering meanwhile."""

import random
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from piste.lib.zstd import zstd
from piste.wire.plan import PlanAnswer
from tests.hub.process import Hub
from tests.hub.publishing import Acme
from tests.running.closures import ATTRIBUTE, Member, file_nar, frame, new_path
from tests.soak.test_large import MB, peak

HUB_LIMIT = 250 * MB
_DEADLINE = 600.0


@pytest.fixture
def acme(tmp_path: Path) -> Iterator[Acme]:
    hub = Hub(tmp_path / "hub")
    try:
        hub.start()
        yield Acme(hub)
    finally:
        hub.close()


def _publish(acme: Acme, version: str, content: bytes) -> None:
    path = Member(new_path("large", version), file_nar(content), ())
    filling = acme.open(version)
    filling.declare([path], {ATTRIBUTE: path})
    assert filling.upload(frame(path.nar_hash, zstd.compress(path.nar, level=1))).status == 200
    filling.source()
    assert filling.finish().status == 200


def _plan(acme: Acme, base: str) -> PlanAnswer:
    answer = acme.ask("GET", f"{acme.base}/plan/1/{ATTRIBUTE}?have={base.removeprefix('sha256:')}")
    return msgspec.json.decode(answer.body, type=PlanAnswer)


def _changed(content: bytes) -> bytes:
    """Something else in a hundred places, and something more in front of the second half."""
    draw = random.Random(2)
    changed = bytearray(content)
    for _ in range(100):
        place = draw.randrange(len(changed) - 1000)
        changed[place : place + 1000] = draw.randbytes(1000)
    half = len(changed) // 2
    return bytes(changed[:half]) + draw.randbytes(3 * MB) + bytes(changed[half:])


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("size", [100 * MB, 400 * MB])
def test_a_delta_of_a_large_nar_is_made_in_little_memory(acme: Acme, size: int) -> None:
    draw = random.Random(1)
    content = b"".join(draw.randbytes(100 * MB) for _ in range(size // (100 * MB)))
    _publish(acme, "1.0.0", content)
    base = acme.resolve("=1.0.0").json()["manifest"]
    before = peak(Path(f"/proc/{acme.hub.pid}/status").read_text())
    _publish(acme, "1.1.0", _changed(content))
    del content
    started = time.monotonic()
    waits: list[float] = []
    while (answer := _plan(acme, base)).deltas is None:
        assert time.monotonic() < started + _DEADLINE
        asked = time.monotonic()
        assert acme.hub.request("GET", "/api/v1/status", token=acme.member).status == 200
        waits.append(time.monotonic() - asked)
        time.sleep(0.1)
    (offer,) = answer.deltas.offers
    hub_peak = peak(Path(f"/proc/{acme.hub.pid}/status").read_text())
    sys.stdout.write(
        f"{size // MB} MB: a delta of {offer.size / MB:.2f} MB after {time.monotonic() - started:.1f} s; hub"
        f" {before // MB} MB before, {hub_peak // MB} MB at most; an answer meanwhile took"
        f" {statistics.median(waits) * 1000:.1f} ms, {max(waits) * 1000:.1f} at most\n"
    )
    assert offer.size < 5 * MB
    assert hub_peak < HUB_LIMIT
