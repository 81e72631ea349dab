"""The steps of docs/migrating.md from `flakehub-push`, as they stand there."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.dialects.flakehub_push.pusher import Pusher
from tests.hub.process import Hub
from tests.hub.publishing import Acme
from tests.identities.openid import Certificate, Provider
from tests.running.command import ROOT, Person

GUIDE = (
    (ROOT / "docs/migrating.md")
    .read_text()
    .partition("### Releases: `flakehub-push`")[2]
    .partition("### ")[0]
)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, certificate: Certificate) -> Iterator[Hub]:
    made = Hub(tmp_path_factory.mktemp("hub"), None, ("--allow-egress", "localhost"))
    try:
        yield made.start()
    finally:
        made.close()


@pytest.mark.parametrize("ref", ["refs/heads/main", "refs/tags/v1.0.0"])
def test_the_rule_of_the_guide_lets_the_repository_publish_its_first_release(
    hub: Hub, provider: Provider, tmp_path: Path, ref: str
) -> None:
    acme = Acme(hub)
    admin = Person(tmp_path, hub.url, hub.admin)
    (line,) = re.findall(r"^\$ piste (trust add .*)$", GUIDE, re.MULTILINE)
    words = [
        word.strip("'")
        for word in line.replace("acme/web --preset", f"{acme.organization}/new --preset").split()
    ]
    # The issuer is GitHub's there, and a real one of our own here.
    admin.succeed(*words, "--issuer", provider.issuer)
    claims: dict[str, Any] = {
        "repository_id": "123456",
        "ref": ref,
        "ref_protected": "true",
        "event_name": "push",
    }
    name = f"{acme.organization}/new"
    push = Pusher(hub, provider.mint(**claims), name, "v1.0.0", said={"visibility": "private"})
    push.run()
    shown = acme.ask("GET", f"/api/v1/projects/{name}/releases/1").json()
    assert shown["release"]["version"] == "1.0.0"
    assert acme.ask("GET", f"/api/v1/projects/{name}").json()["visibility"] == "private"
    other = Pusher(hub, provider.mint(**claims | {"ref": "refs/heads/other"}), name, "v2.0.0")
    assert other.stage().status == 401


def test_gotcha_33_the_guide_names_the_repository_where_gitlab_gives_a_number() -> None:
    (gitlab,) = [part for part in re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL) if "GITLAB_JWT" in part]
    assert "FLAKEHUB_PUSH_REPOSITORY: acme/web" in gitlab
    assert "aud: hub.example.org" in gitlab


def test_the_guide_says_what_still_goes_to_flakehub_and_what_can_not_be_moved() -> None:
    assert "https://flakehub.com/f/DeterminateSystems/inspect/*" in GUIDE
    assert "determinate-nixd can't be told of another hub" in GUIDE
