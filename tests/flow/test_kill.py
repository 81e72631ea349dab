"""A hub that loses its process at any point of a publication shows whole releases, or nothing of them.

Each round publishes a version, kills the hub at a random moment of a random step, starts it again and reads
what it shows as a host would. The seed is printed when it fails; PISTE_KILL_SEED draws the same again.
"""

import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from piste.lib.errors import PisteError
from tests.hub.postgres import Postgres
from tests.hub.process import Hub
from tests.running.audit import Reader, check_absent, check_release, versions
from tests.running.closures import Member, make_closure, member, publish
from tests.running.tenants import Tenant, client_of, make_tenant

pytestmark = pytest.mark.long

KILLS = 50
# How often the kill falls into each step: most into the last, where everything becomes visible.
STEPS = {"open": 1, "declare": 2, "upload": 5, "source": 2, "finish": 10}


@pytest.fixture(params=["sqlite", "postgresql"])
def hub(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Hub]:
    """A running hub; on both engines."""
    database: str | None = None
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        database = server.create()
    made = Hub(tmp_path / "hub", database)
    try:
        yield made.start()
    finally:
        made.close()


class Stopwatch:
    """How long each step of a publication takes when nobody interrupts it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._step, self._since = "", time.perf_counter()

    def before(self, step: str) -> None:
        now = time.perf_counter()
        if self._step:
            self.seconds[self._step] = max(now - self._since, self.seconds.get(self._step, 0.0))
        self._step, self._since = step, now


class Assassin:
    """Kills the hub `delay` seconds after a step has begun."""

    def __init__(self, hub: Hub, step: str, delay: float) -> None:
        self._hub = hub
        self._step = step
        self._delay = delay
        self._thread: threading.Thread | None = None

    def before(self, step: str) -> None:
        if step == self._step and self._thread is None:
            self._thread = threading.Thread(target=self._strike)
            self._thread.start()

    def _strike(self) -> None:
        threading.Event().wait(self._delay)
        self._hub.kill()

    def finish(self) -> None:
        """The hub is dead after this, also where the step never came."""
        if self._thread is None:
            self._hub.kill()
        else:
            self._thread.join()


@pytest.mark.timeout(280)
def test_a_hub_killed_at_any_point_of_a_publication_shows_whole_releases_or_nothing(
    hub: Hub,
) -> None:
    seed = int(os.environ.get("PISTE_KILL_SEED") or random.SystemRandom().randrange(1 << 32))
    sys.stdout.write(f"PISTE_KILL_SEED={seed}\n")
    draw = random.Random(seed)
    tenant = make_tenant(hub, "acme", "web")
    base = member("base", seed, draw.randbytes(100_000))
    trial = _Trial(hub, tenant, base, draw)
    trial.measure()
    for number in range(1, KILLS + 1):
        trial.round(number)
    trial.read_everything()
    sys.stdout.write(f"{KILLS} kills, {trial.visible} after the release was visible, {trial.steps}\n")


class _Trial:
    """The rounds, and what is known to be published."""

    def __init__(self, hub: Hub, tenant: Tenant, base: Member, draw: random.Random) -> None:
        self.hub = hub
        self.tenant = tenant
        self.key = tenant.key
        self.base = base
        self.draw = draw
        self.seconds: dict[str, float] = {}
        self.published: list[str] = []
        self.visible = 0
        self.steps: dict[str, int] = dict.fromkeys(STEPS, 0)

    def measure(self) -> None:
        """One publication in peace, to know how long the steps take."""
        watch = Stopwatch()
        self._publish("0.1.0", self._closure(0), None, watch.before)
        watch.before("end")
        self.seconds = watch.seconds
        self.published.append("0.1.0")

    def round(self, number: int) -> None:
        version, closure = f"0.1.{number}", self._closure(number)
        # Half of them under a name, which the second attempt joins with what the first has left.
        stage = f"round-{number}" if number % 2 else None
        step = self.draw.choices(list(STEPS), list(STEPS.values()))[0]
        assassin = Assassin(self.hub, step, self.draw.random() * self.seconds[step] * 1.1)
        self.steps[step] += 1
        acknowledged = False
        try:
            self._publish(version, closure, stage, assassin.before)
            acknowledged = True
        except PisteError as error:
            assert error.exit_code == 4, f"round {number}, killed in {step}: {error}"
        finally:
            assassin.finish()
        self.hub.start()
        where = f"round {number}, killed in {step}"
        self._check(version, closure, acknowledged=acknowledged, where=where)
        again = self._publish(version, closure, stage, lambda step: None)
        assert again == (not self.visible_now), where
        self.published.append(version)

    def read_everything(self) -> None:
        with Reader(self.hub.url, self.tenant.token) as reader:
            assert sorted(versions(reader, self.tenant)) == sorted(self.published)
            for version in self.published:
                check_release(reader, self.tenant, self.key, version)

    def _check(self, version: str, closure: list[Member], *, acknowledged: bool, where: str) -> None:
        with Reader(self.hub.url, self.tenant.token) as reader:
            shown = versions(reader, self.tenant)
            assert set(self.published) <= set(shown) <= {*self.published, version}, where
            self.visible_now = version in shown
            self.visible += self.visible_now
            assert self.visible_now or not acknowledged, f"{where}: acknowledged, and lost"
            if self.visible_now:
                check_release(reader, self.tenant, self.key, version)
            else:
                own = [each.path.base_name for each in closure if each is not self.base]
                check_absent(reader, self.tenant, version, own)
            for other in self.draw.sample(self.published, min(2, len(self.published))):
                check_release(reader, self.tenant, self.key, other, contents=False)

    def _publish(
        self, version: str, closure: list[Member], stage: str | None, before: Callable[[str], None]
    ) -> bool:
        """Whether a new release came of it."""
        with client_of(self.hub, self.tenant.token) as client:
            done = publish(
                client,
                self.tenant.organization,
                self.tenant.project,
                version,
                closure,
                stage=stage,
                before=before,
            )
        return done.created

    def _closure(self, number: int) -> list[Member]:
        return make_closure(number, base=self.base)
