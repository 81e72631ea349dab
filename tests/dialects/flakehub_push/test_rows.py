"""Rows 12 to 15: a release as `flakehub-push` publishes it, exchange by exchange, on both engines."""

import asyncio
import base64
import gzip
import hashlib
import json
import uuid
from contextlib import AsyncExitStack
from typing import Any

import pytest

from piste.hub.app import build
from piste.hub.registry.queries import release_document
from piste.hub.settings import make_settings
from tests.dialects.flakehub_push.pusher import FLAKE, REVISION, Pusher, inventory, leaf, metadata, pack
from tests.hub.publishing import Acme
from tests.running.closures import new_path

ROLLING = f"0.1.7+rev-{REVISION}"
TOPLEVEL = str(new_path("nixos-system-web", "toplevel"))


def pusher(acme: Acme, version: str = "1.0.0", **said: Any) -> Pusher:
    return Pusher(acme.hub, acme.member, f"{acme.organization}/{acme.project}", version, said=said)


def release(acme: Acme, requirement: str) -> Any:
    answer = acme.ask("GET", f"{acme.base}/releases/{requirement}")
    assert answer.status == 200, answer.body
    return answer.json()


def test_row_12_a_good_token_passes_and_none_or_another_does_not(acme: Acme) -> None:
    push = pusher(acme)
    assert push.status().status == 200
    push.token = None
    assert push.status().status == 401
    push.token = "flakehub1_nothing"
    reply = push.status()
    assert reply.status == 401
    assert b"\n" not in reply.body
    assert isinstance(reply.json(), str)


def test_row_13_staging_answers_200_with_an_absolute_address_and_a_uuid(acme: Acme) -> None:
    push = pusher(acme)
    reply = push.stage()
    assert reply.status == 200
    assert uuid.UUID(push.uuid).version == 7
    assert push.url.startswith(acme.hub.url + "/")
    assert acme.ask("GET", f"{acme.base}/releases").json() == []


def test_row_14_a_source_is_put_once_without_a_credential(acme: Acme) -> None:
    push = pusher(acme)
    push.stage()
    assert push.put().status == 200
    assert push.put().status == 401
    assert push.publish().status == 200


def test_row_15_publishing_answers_200_and_makes_the_release_visible(acme: Acme) -> None:
    push = pusher(acme)
    push.stage()
    push.put()
    reply = push.publish()
    assert reply.status == 200
    shown = release(acme, "1.0.0")
    assert shown["release"]["id"] in shown["source_url"]
    source = acme.ask("GET", shown["source_url"].removeprefix(acme.hub.url))
    assert gzip.decompress(source.body) == gzip.decompress(push.tarball)


def test_everything_that_is_said_of_a_release_is_kept(acme: Acme) -> None:
    push = pusher(
        acme,
        ROLLING,
        source_subdirectory="nix/web",
        spdx_identifier="Apache-2.0 OR MIT",
        labels=["web", "größe", "-"],
        mirrored=True,
    )
    push.tarball = pack({"flake.nix": FLAKE, "README.md": b"# Web"})
    push.run()
    shown = release(acme, "*")
    assert shown["release"]["version"] == ROLLING
    assert (shown["release"]["rolling"], shown["release"]["commit_count"]) == (True, 7)
    assert shown["release"]["revision"] == REVISION
    assert (shown["description"], shown["readme"]) == ("A flake", "# Web")
    assert (shown["license"], shown["labels"]) == ("Apache-2.0 OR MIT", ["größe", "web"])
    assert (shown["subdirectory"], shown["mirrored"]) == ("nix/web", True)


@pytest.mark.parametrize("version", [1, 2])
def test_outputs_are_recorded_whatever_the_version_of_the_inventory(acme: Acme, version: int) -> None:
    tree = {
        "packages": {
            "x86_64-linux": {"default": leaf(str(new_path("web", 1)), "x86_64-linux"), "a.b": leaf()}
        },
        "nixosConfigurations": {"web": leaf(TOPLEVEL, what="NixOS configuration")},
        "devShells": {"x86_64-linux": {"x.y": leaf(None, outputs={"dev": str(new_path("dev", 1))})}},
        "legacyPackages": {},
        "floating": {"ca": leaf("/1rz4g4znpzjwh1xymhjpm42vipw92pr73vdgl6xs1hycac8kf2n9")},
    }
    push = pusher(acme, outputs=inventory(tree, version))
    push.run()
    outputs = {each["attribute"]: each for each in release(acme, "1")["outputs"]}
    assert set(outputs) == {
        "packages.x86_64-linux.default",
        "nixosConfigurations.web",
        'devShells.x86_64-linux."x.y"',
    }
    assert outputs["nixosConfigurations.web"]["store_path"] == TOPLEVEL
    assert outputs["packages.x86_64-linux.default"]["system"] == "x86_64-linux"
    assert not any(each["available"] for each in outputs.values())


@pytest.mark.parametrize(
    "outputs",
    [
        None,
        {},
        {"version": 1, "docs": {}, "inventory": {}},
        {"version": 9, "inventory": {"packages": {"children": {"x": {"new": [1]}}}, "y": None, "z": [1]}},
        {"version": 9, "tree": "another"},
    ],
)
def test_an_inventory_that_says_nothing_known_is_no_error(acme: Acme, outputs: Any) -> None:
    pusher(acme, outputs=outputs).run()
    assert release(acme, "1")["outputs"] == []


def test_version_2_names_its_paths_below_the_derivation(acme: Acme) -> None:
    path = str(new_path("web", 2))
    derivation = {"what": "package", "derivation": {"name": "web", "outputs": {"out": {"path": path}}}}
    pusher(acme, outputs=inventory({"packages": {"x86_64-linux": {"web": derivation}}}, 2)).run()
    assert [each["store_path"] for each in release(acme, "1")["outputs"]] == [path]


def test_resolving_what_is_recorded_alone_is_a_404_that_counts_what_is_missing(acme: Acme) -> None:
    pusher(acme, outputs=inventory({"nixosConfigurations": {"web": leaf(TOPLEVEL)}})).run()
    answer = acme.resolve("1")
    assert (answer.status, answer.ref) == (404, "output-not-available")
    assert answer.json()["error"]["context"] == {"missing": "1"}
    name = f"{acme.organization}/{acme.project}"
    answer = acme.ask("GET", f"/f/{name}/1/output/nixosConfigurations.web?include_token=true")
    assert answer.status == 404


def test_a_version_that_is_published_is_a_conflict_when_it_is_staged(acme: Acme) -> None:
    pusher(acme).run()
    again = pusher(acme).stage()
    assert again.status == 409
    assert "published already" in again.json()
    other = pusher(acme, revision="2" * 40).stage()
    assert other.status == 409
    assert "another commit" in other.json()
    assert pusher(acme, "1.0.1").stage().status == 200


def test_a_rolling_version_of_another_commit_is_a_conflict_and_no_error_of_the_hub(acme: Acme) -> None:
    pusher(acme, ROLLING).run()
    other = pusher(acme, f"0.1.7+rev-{'2' * 40}", revision="2" * 40).stage()
    assert other.status == 409
    assert "another commit" in other.json()


def test_two_that_stage_one_version_at_once_end_in_one_release(acme: Acme) -> None:
    first, second, third = pusher(acme), pusher(acme), pusher(acme, revision="2" * 40)
    for each in (first, second, third):
        assert (each.stage().status, each.put().status) == (200, 200)
    assert first.publish().status == 200
    assert second.publish().status == 200  # the same content
    conflict = third.publish()
    assert conflict.status == 409
    assert "other content" in conflict.json()


def test_publishing_twice_is_one_release(acme: Acme) -> None:
    push = pusher(acme)
    push.run()
    assert push.publish().status == 200
    assert len(acme.ask("GET", f"{acme.base}/releases").json()) == 1


def test_a_visibility_other_than_the_projects_is_refused_and_no_conflict(acme: Acme) -> None:
    reply = pusher(acme, visibility="private").stage()
    assert reply.status == 400
    assert "is public, not private" in reply.json()
    assert "Visibility belongs to the project" in reply.json()


def test_hidden_is_an_older_word_for_unlisted(acme: Acme) -> None:
    acme.add_project("quiet", "unlisted")
    acme.project = "quiet"
    pusher(acme, visibility="hidden").run()


def test_the_first_release_makes_its_project_and_it_goes_if_nothing_is_published(acme: Acme) -> None:
    acme.project = "new"
    push = pusher(acme)
    push.run()
    assert acme.hub.request("GET", f"{acme.base}/releases").json()[0]["version"] == "1.0.0"
    acme.project = "other"
    push = pusher(acme, visibility="unlisted")
    assert push.stage().status == 200
    assert acme.ask("GET", acme.base).json()["visibility"] == "unlisted"
    assert acme.ask("DELETE", f"{acme.base}/publications/{push.uuid}").status == 204
    assert acme.ask("GET", acme.base).status == 404
    assert pusher(acme, visibility="private").run().status == 200
    assert acme.ask("GET", acme.base).json()["visibility"] == "private"


def test_whoever_may_not_publish_learns_nothing_and_leaves_nothing(acme: Acme) -> None:
    stranger = Acme(acme.hub)
    acme.add_project("secret", "private")
    hidden, missing = pusher(acme), pusher(acme)
    hidden.name, missing.name = f"{acme.organization}/secret", f"{acme.organization}/none"
    for push in (hidden, missing):
        push.token = stranger.member
    first, second = hidden.stage(), missing.stage()
    assert (first.status, first.body) == (second.status, second.body)
    assert first.status == 404
    push = pusher(acme)
    push.stage()
    push.put()
    others = Pusher(acme.hub, stranger.member, push.name, "1.0.0", uuid=push.uuid)
    nothing = Pusher(acme.hub, stranger.member, push.name, "1.0.0", uuid=str(uuid.uuid4()))
    assert (others.publish().status, others.publish().body) == (404, nothing.publish().body)
    assert push.publish().status == 200
    device = Pusher(acme.hub, acme.hub.make_token(acme.organization, kind="device"), push.name, "2.0.0")
    refused = device.stage()
    assert refused.status == 401  # 403 has no words in this client
    assert "does not allow" in refused.json()


def test_gotcha_2_a_digest_with_slashes_two_in_a_row_as_well_arrives_as_sent(acme: Acme) -> None:
    push = pusher(acme)
    for number in range(100_000):
        push.tarball = pack({"flake.nix": FLAKE + b"# %d" % number})
        if "//" in push.digest:
            break
    assert "//" in push.digest
    push.run()
    shown = release(acme, "1")
    assert acme.ask("GET", shown["source_url"].removeprefix(acme.hub.url)).status == 200


def test_gotcha_3_a_plus_is_a_plus(acme: Acme) -> None:
    push = pusher(acme, ROLLING)
    while "+" not in push.digest:
        push.tarball = pack({"flake.nix": FLAKE + push.digest.encode()})
    push.run()
    assert release(acme, "*")["release"]["version"] == ROLLING


def test_gotcha_4_exactly_200_and_no_other_success(acme: Acme) -> None:
    push = pusher(acme)
    assert [step().status for step in (push.stage, push.put, push.publish)] == [200, 200, 200]


def test_gotcha_10_a_v_is_taken_from_versions_and_requirements(acme: Acme) -> None:
    pusher(acme, "v1.2.3").run()
    assert release(acme, "1")["release"]["version"] == "1.2.3"
    # As the client writes them for the steps that follow.
    for requirement in ("v1.2.3", "=v1.2.3"):
        assert release(acme, requirement)["release"]["version"] == "1.2.3"
    assert pusher(acme, "v1.2.3").stage().status == 409
    assert pusher(acme, "1.2.3").stage().status == 409


def test_gotcha_11_the_root_of_the_repository_is_no_subdirectory(acme: Acme) -> None:
    pusher(acme, source_subdirectory="").run()
    name = f"{acme.organization}/{acme.project}"
    assert acme.ask("GET", f"/version/{name}/1").json()["source_subdirectory"] is None


def test_gotcha_12_the_repository_is_not_what_the_body_says_of_the_upload(acme: Acme) -> None:
    name = f"{acme.organization}/{acme.project}"
    pusher(acme, repo="some/thing").run()
    assert release(acme, "1")["repository"] is None
    assert acme.ask("GET", f"/version/{name}/1").json()["source_github_owner_repo_pair"] == name
    known = {
        "locked": {"type": "github", "owner": "o", "repo": "r"},
        "original": {"type": "git", "url": "file:///x"},
    }
    pusher(acme, "2.0.0", raw_flake_metadata=known).run()
    assert release(acme, "2")["repository"] == "https://github.com/o/r"
    secret = {"original": {"type": "git", "url": "https://me:secret@code.example/x"}}
    pusher(acme, "3.0.0", raw_flake_metadata=secret).run()
    assert release(acme, "3")["repository"] is None


def test_gotcha_13_a_put_without_user_agent_and_credential_is_taken(acme: Acme) -> None:
    push = pusher(acme)
    push.stage()
    assert push.put().status == 200


def test_gotcha_14_publishing_needs_neither_body_nor_length(acme: Acme) -> None:
    assert pusher(acme).run().status == 200


def test_gotcha_15_only_a_version_that_is_there_is_a_409(acme: Acme) -> None:
    pusher(acme).run()
    assert pusher(acme).stage().status == 409
    for bad in (
        {"visibility": "private"},
        {"revision": "x"},
        {"labels": "none"},
        {"description": "x" * 9999},
    ):
        assert pusher(acme, "2.0.0", **bad).stage().status == 400, bad
    assert pusher(acme, "2.0").stage().status == 400


def test_gotcha_17_one_token_in_each_scheme(acme: Acme) -> None:
    basic = base64.b64encode(f"flakehub:{acme.member}".encode()).decode()
    for value in (f"Bearer {acme.member}", f"bearer {acme.member}", f"Basic {basic}"):
        answer = acme.hub.request("GET", "/token/status", headers={"Authorization": value})
        assert answer.status == 200


def test_gotcha_31_labels_come_in_any_order_and_are_kept_in_one(acme: Acme) -> None:
    pusher(acme, labels=["b", "a", "c"]).run()
    assert release(acme, "1")["labels"] == ["a", "b", "c"]


@pytest.mark.parametrize(
    "text", ["👩\u200d💻 tools", "für\u00a0alle", "two\nlines\tand a tab", "ひとつ\u3000ふたつ", "", None]
)
def test_a_description_in_any_script_is_kept(acme: Acme, text: str | None) -> None:
    pusher(acme, description=text).run()
    assert release(acme, "1")["description"] == (text or None)


@pytest.mark.parametrize("text", ["\x1b[2J", "a\u202eb", "\x00", "x\u2028y", "x" * 4097])
def test_a_description_that_would_not_be_shown_as_it_is_is_refused(acme: Acme, text: str) -> None:
    refused = pusher(acme, description=text).stage()
    assert refused.status == 400
    assert "description" in refused.json()


def test_the_whole_body_is_kept_to_the_letter(acme: Acme) -> None:
    push = pusher(acme)
    body = json.dumps(metadata(push.name, something={"new": [1, 2.50]}), indent=2).encode()
    assert push.stage(body=body).status == 200
    push.put()
    push.publish()
    name = f"{acme.organization}/{acme.project}"
    digest = hashlib.sha256(body).hexdigest()
    answer = acme.ask("GET", f"/version/{name}/1")
    assert answer.status == 200
    assert digest == hashlib.sha256(kept_document(acme, release(acme, "1")["release"]["id"])).hexdigest()


def kept_document(acme: Acme, release_id: str) -> bytes:
    """From the hub's own database."""

    async def ask() -> str | None:
        async with AsyncExitStack() as stack:
            settings = make_settings(acme.hub.data, listen="127.0.0.1:1", database=acme.hub.database)
            services = await build(settings, stack)
            return await release_document(services.database, release_id)

    return (asyncio.run(ask()) or "").encode()
