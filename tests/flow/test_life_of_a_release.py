"""From a flake to a running host and back: a real hub, real Nix, the example, and the commands as typed."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from msgspec.structs import replace

from piste.client.api import HubClient
from piste.client.credentials import find_credential
from piste.host import engine, verify
from piste.host.fetch import Fetching
from piste.host.place import Host
from piste.host.records import Kind, Result, Watcher
from piste.host.resolve import read_reference
from piste.host.stopwatch import Stopwatch
from piste.wire.releases import Yank
from tests.host.system import example_source, page_of, service_port, why_no_activation, with_page
from tests.hub.process import Hub
from tests.running.command import Finished, Person
from tests.running.tenants import Tenant, client_of, make_tenant

pytestmark = pytest.mark.long

ATTRIBUTE = "nixosConfigurations.web"


@dataclass
class Stage:
    """A hub, a publisher with the example, and a machine that runs what was published."""

    tenant: Tenant
    publisher: Person
    machine: Person
    source: Path
    port: int

    @property
    def page(self) -> str | None:
        return page_of(self.port)

    @property
    def keys(self) -> str:
        return str(self.tenant.key)

    def reference(self, requirement: str = "1") -> str:
        return f"{self.tenant.name}/{requirement}#{ATTRIBUTE}"

    def publish(self, version: str, page: str) -> str:
        """Publish the system with a page; its store path."""
        with_page(self.publisher, self.source, page)
        argv = ["publish", str(self.source), "--name", self.tenant.name, "--version", version, "--json"]
        outputs: dict[str, str] = self.publisher.succeed(*argv).json["outputs"]
        return outputs[ATTRIBUTE]

    def apply(self, requirement: str = "1", *arguments: str) -> Finished:
        return self.machine.piste("apply", "nixos", self.reference(requirement), *arguments, "--json")

    def log_in(self) -> None:
        self.machine.succeed("login")


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    if reason := why_no_activation():
        pytest.skip(reason)
    hub = Hub(tmp_path / "hub")
    try:
        tenant = make_tenant(hub.start(), "acme", "web")
        publisher = Person(tmp_path / "publisher", hub.url, tenant.token)
        machine = Person(tmp_path / "machine", hub.url, tenant.resolve_only("1", ATTRIBUTE))
        with service_port(machine.root) as port:
            yield Stage(tenant, publisher, machine, example_source(publisher, tmp_path / "source"), port)
    finally:
        hub.close()


def test_a_release_lives_on_a_host_from_its_publication_to_the_way_back(stage: Stage) -> None:
    first = stage.publish("1.0.0", "one")
    stage.log_in()
    applied = stage.apply()
    assert applied.code == 0, applied.stderr
    assert (applied.json["result"], applied.json["store_path"], applied.json["generation"]) == (
        "committed",
        first,
        1,
    )
    assert applied.json["paths_fetched"] == 10
    assert 0 < applied.json["bytes_received"] < 3_000_000
    assert stage.page == "one"

    second = stage.publish("1.1.0", "two")
    forward = stage.apply().json
    assert (forward["version"], forward["previous"], forward["generation"]) == ("1.1.0", first, 2)
    assert forward["paths_fetched"] < 7
    assert stage.page == "two"
    assert stage.apply().json["result"] == "unchanged"

    stage.publish("1.2.0", "")
    failed = stage.apply()
    assert failed.code == 3
    assert (failed.json["result"], failed.json["previous"]) == ("rolled-back", second)
    assert stage.page == "two"

    back = stage.machine.succeed("rollback", "--json").json
    assert (back["result"], back["store_path"], back["version"]) == ("committed", first, "1.0.0")
    assert stage.page == "one"
    history = stage.machine.succeed("history", "--json").json
    results = [(row.get("version"), row["result"]) for row in history]
    assert results == [
        ("1.0.0", "committed"),
        ("1.2.0", "rolled-back"),
        ("1.1.0", "unchanged"),
        ("1.1.0", "committed"),
        ("1.0.0", "committed"),
    ]


def test_the_actions_do_what_they_say(stage: Stage) -> None:
    first = stage.publish("1.0.0", "one")
    stage.log_in()
    stage.apply()
    second = stage.publish("1.1.0", "two")
    boots = stage.machine.root / "boot/loader/loader.conf"

    dry = stage.apply("1", "dry-activate")
    assert dry.json["result"] == "dry-run"
    assert "would restart the following units: web.service" in dry.stderr
    assert stage.page == "one"

    assert stage.apply("1", "test").json["result"] == "tested"
    assert (stage.page, boots.read_text().split()[1]) == ("two", first)

    assert stage.apply("=1.0.0").json["result"] == "committed"
    assert stage.apply("1", "boot").json["result"] == "staged"
    assert (stage.page, boots.read_text().split()[1]) == ("one", second)


def test_a_difference_is_told_before_anything_is_fetched(stage: Stage) -> None:
    first = stage.publish("1.0.0", "one")
    stage.log_in()
    stage.apply()
    second = stage.publish("1.1.0", "two and more")
    told = stage.machine.succeed("diff", stage.reference(), "--json").json
    assert (told["current"], told["store_path"], told["units_changed"]) == (first, second, ["web.service"])
    assert not told["reboot_needed"]
    assert {package["name"] for package in told["packages_rebuilt"]} >= {"site", "etc", "nixos-system-web"}
    assert not (stage.machine.root / second.lstrip("/")).exists()


def test_a_fetch_brings_the_closure_and_a_root_and_no_more(stage: Stage) -> None:
    first = stage.publish("1.0.0", "one")
    stage.log_in()
    link = stage.machine.folder / "root-of-it"
    fetched = stage.machine.succeed("fetch", stage.reference(), str(link), "--json").json
    assert (fetched["store_path"], fetched["paths_fetched"]) == (first, 10)
    assert str(link.readlink()) == first
    stage.machine.run("nix-store", "--gc")
    assert stage.machine.run("nix-store", "--verify-path", first).code == 0
    again = stage.machine.succeed("fetch", stage.reference(), str(link), "--json").json
    assert (again["paths_fetched"], again["bytes_received"]) == (0, 0)
    assert again["bytes_full"] == fetched["bytes_received"]
    assert not (stage.machine.root / "run/current-system").exists()


def test_a_host_that_trusts_no_key_runs_nothing_until_it_is_given_one(stage: Stage) -> None:
    stage.publish("1.0.0", "one")
    refused = stage.apply()
    assert (refused.code, refused.problem["ref"]) == (6, "untrusted-statement")
    assert "acme" in refused.problem["message"]
    trusting = Person(
        stage.machine.folder,
        stage.machine.hub,
        stage.machine.token,
        extra={"PISTE_TRUSTED_PUBLIC_KEYS": stage.keys},
    )
    assert trusting.succeed("apply", "nixos", stage.reference(), "--json").json["result"] == "committed"


def test_an_older_release_is_refused_unless_it_is_asked_for_exactly(stage: Stage) -> None:
    stage.publish("1.0.0", "one")
    stage.publish("1.1.0", "two")
    stage.log_in()
    assert stage.apply().json["version"] == "1.1.0"
    with client_of(stage.tenant.hub, stage.tenant.hub.admin) as admin:
        admin.yank(stage.tenant.organization, stage.tenant.project, "1.1.0", Yank())
    refused = stage.apply()
    assert (refused.code, refused.problem["ref"]) == (1, "older-than-committed")
    assert stage.page == "two"
    assert stage.apply("=1.0.0").json["result"] == "committed"
    assert stage.page == "one"


def test_a_hub_that_can_not_be_reached_after_the_switch_means_the_way_back(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.publish("1.0.0", "one")
    stage.log_in()
    stage.apply()
    # Its activation takes the network away, as far as piste can see: the hub ends while the new one starts.
    script = stage.source / "system/activate.sh"
    script.write_text(script.read_text() + f"kill -9 {stage.tenant.hub.pid}\n")
    second = stage.publish("1.1.0", "two")
    # In this process, since a host gives its network half a minute to come back.
    monkeypatch.setattr(verify, "_REACH", 1.0)
    for name, value in stage.machine.environment.items():
        monkeypatch.setenv(name, value)
    outcome = engine.apply(
        Host.at("auto", stage.machine.root),
        find_credential(),
        engine.Request(Kind.NIXOS, stage.reference()),
        Watcher(),
    )
    assert (outcome.result, outcome.store_path) == (Result.ROLLED_BACK, second)
    assert "could not be reached" in str(outcome.reason)
    assert stage.page == "one"


def test_a_token_that_expires_during_the_download_is_replaced(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = stage.publish("1.0.0", "one")
    stage.log_in()
    for name, value in stage.machine.environment.items():
        monkeypatch.setenv(name, value)
    host, link = Host.at("auto", stage.machine.root), stage.machine.folder / "link"
    with HubClient(find_credential()) as hub, Fetching(hub, host, Watcher(), Stopwatch()) as fetching:
        reference = read_reference(stage.reference(), hub.url)
        authorised = fetching.authorise(reference, Kind.NIXOS, [])
        plan = fetching.plan(authorised)
        spoiled = replace(plan, token=str(plan.token)[:-6] + "AAAAAA")
        fetched = fetching.bring(authorised, spoiled, link)
    assert (fetched.store_path, fetched.paths_fetched) == (first, 10)


def test_a_system_without_piste_is_warned_about(stage: Stage) -> None:
    stage.publish("1.0.0", "one")
    stage.log_in()
    applied = stage.apply()
    assert "does not contain piste" in applied.stderr
    assert json.loads(applied.stdout)["warnings"]


def test_an_output_that_is_no_system_is_refused_before_anything_is_touched(stage: Stage) -> None:
    stage.publish("1.0.0", "one")
    reader = Person(stage.machine.folder, stage.machine.hub, stage.tenant.token)
    reader.succeed("login")
    system = stage.machine.succeed("resolve", stage.reference()).stdout.strip()
    assert system
    outputs = reader.succeed("list", "outputs", f"{stage.tenant.name}/1", "--json").json
    notes = next(output["attribute"] for output in outputs if output["attribute"].endswith(".notes"))
    refused = reader.piste("apply", "nixos", f"{stage.tenant.name}/1#{notes}", "--json")
    assert (refused.code, refused.problem["ref"]) == (1, "not-a-configuration")
    assert not (stage.machine.root / "run/current-system").exists()


def test_a_store_that_is_not_below_the_root_is_a_usage_error(stage: Stage) -> None:
    stage.publish("1.0.0", "one")
    stage.log_in()
    elsewhere = f"local?root={stage.machine.folder}/elsewhere"
    refused = stage.apply("1", "--store", elsewhere)
    assert (refused.code, refused.problem["ref"]) == (2, "store-elsewhere")


def test_another_kernel_is_told_as_a_reboot_that_is_needed(stage: Stage) -> None:
    stage.publish("1.0.0", "one")
    stage.log_in()
    assert "reboot" not in stage.apply().stderr
    toplevel = stage.source / "system/default.nix"
    toplevel.write_text(toplevel.read_text().replace('linux = "6.12.58"', 'linux = "6.12.59"'))
    stage.publish("1.1.0", "two")
    told = stage.machine.succeed("diff", stage.reference(), "--json").json
    assert (told["kernel_before"], told["kernel_after"], told["reboot_needed"]) == (
        "6.12.58",
        "6.12.59",
        True,
    )
    changed = {one["name"]: (one["before"], one["after"]) for one in told["packages_changed"]}
    assert changed["linux"] == (["6.12.58"], ["6.12.59"])
    assert "take effect with a reboot" in stage.apply().stderr
