"""What `fh` reads from a hub, row by row of the routes that it knows: statuses, shapes, and who sees what."""

from pathlib import Path
from typing import Any

import pytest

from tests.dialects.fh.client import (
    Fh,
    Flake,
    FoundVersion,
    Metadata,
    Organization,
    Output,
    OwnersProject,
    Release,
    TokenStatus,
    as_json,
    complete_versions,
)
from tests.dialects.fh.conftest import DOTTED, FAR, REVISION, ROLLING, SLASHED, SYSTEM, World
from tests.dialects.flakehub_push.pusher import Pusher, inventory, leaf
from tests.hub.process import Hub
from tests.hub.publishing import Acme, chain
from tests.running.closures import ATTRIBUTE


def names(rows: list[Flake]) -> set[str]:
    return {f"{row.org}/{row.project}" for row in rows}


def test_row_1_status_names_the_user_and_the_end_of_the_token(world: World) -> None:
    said = world.member.status().read(TokenStatus)
    assert said.gh_name == f"{world.org}-publisher"
    own = world.hub.request("GET", "/api/v1/status", token=world.acme.member).json()
    assert said.expires_at == own["expires_at"] // 1_000_000


@pytest.mark.parametrize("kind", ["device", "resolve-only"])
def test_row_1_status_of_what_is_no_persons_names_the_organization(world: World, kind: str) -> None:
    bound = {"project": "vault", "requirement": "1", "attribute": ATTRIBUTE} if kind != "device" else {}
    token = world.hub.make_token(world.org, kind=kind, expires_in=3600, **bound)
    said = Fh(world.hub.url, token).status().read(TokenStatus)
    assert said.gh_name == world.org
    assert 0 < said.expires_at < 1 << 32


@pytest.mark.parametrize("token", [None, "", "piste_user_wrong", "flakehub1_eyJhbGciOiJFUzI1NiJ9"])
def test_row_1_a_token_that_is_none_is_answered_401(world: World, token: str | None) -> None:
    heard = Fh(world.hub.url, token).status()
    assert heard.status == 401
    assert heard.sentence


def test_row_2_a_search_finds_public_flakes_by_name_description_and_label(world: World) -> None:
    for words in ("web", f"{world.org} PAD", "pad everybody", "editor"):
        heard = world.member.search(words)
        assert world.web in names(heard.read(list[Flake])), words
        assert not {world.quiet, world.vault} & names(heard.read(list[Flake]))
    assert as_json(world.member.search("no+such thing")) == []


def test_row_3_flakes_are_listed_with_description_and_labels(world: World) -> None:
    rows = as_json(world.nobody.list_flakes())
    found = [row for row in rows if row["org"] == world.org]
    assert found == [
        {
            "org": world.org,
            "project": "web",
            "description": "A pad for everybody",
            "labels": ["editor", "Nix"],
        }
    ]


def test_row_3_whoever_may_see_more_is_told_of_it(world: World) -> None:
    seen = names(world.member.list_flakes().read(list[Flake]))
    assert {world.web, world.quiet, world.vault} <= seen
    assert not any(name.startswith(f"{world.rival.organization}/") for name in seen)


def test_row_4_an_owners_projects_have_names_of_their_own_for_the_fields(world: World) -> None:
    def listed(fh: Fh, owner: str) -> list[str]:
        found = fh.list_flakes(owner).read(list[OwnersProject])
        assert all(each.organization_name == world.org for each in found)
        return [each.name for each in found]

    assert listed(world.member, world.org) == ["quiet", "vault", "web"]
    assert listed(world.nobody, world.org.upper()) == listed(world.stranger, world.org) == ["web"]
    assert listed(world.nobody, "no-such-owner") == []


def test_row_5_organizations_are_those_with_something_to_see_and_the_own_ones(world: World) -> None:
    def listed(fh: Fh) -> set[str]:
        return {each.name for each in fh.list_orgs().read(list[Organization])}

    assert world.org in listed(world.nobody)
    assert world.rival.organization not in listed(world.nobody) | listed(world.member)
    assert {world.org, world.rival.organization} <= listed(world.stranger)
    own = as_json(world.stranger.get("orgs"))
    assert own == [{"name": world.rival.organization}]


@pytest.mark.parametrize("label", ["editor", "nix", "NIX"])
def test_row_6_a_label_is_found_in_any_case(world: World, label: str) -> None:
    assert world.web in names(world.nobody.list_label(label).read(list[Flake]))
    assert as_json(world.nobody.list_label(f"{label}-not")) == []


def test_row_7_releases_are_listed_with_the_newest_first(world: World) -> None:
    rows = world.nobody.list_releases(world.web).read(list[Release])
    assert [row.version for row in rows] == ["1.11.0", ROLLING, "2.0.0-rc.1", "1.9.0", "1.10.0", "1.0.0"]
    assert [row.simplified_version for row in rows][1:3] == ["0.1.7", "2.0.0-rc.1"]
    assert rows[4].revision == REVISION
    published = [row.published_at for row in rows if row.published_at is not None]
    assert published == sorted(published, reverse=True) and len(published) == len(rows)


def test_row_7_a_release_says_more_than_fh_reads(world: World) -> None:
    rows = as_json(world.nobody.list_releases(world.web))
    yanked, tagged = rows[0], rows[4]
    assert tagged.pop("published_at").endswith("Z")
    assert tagged == {
        "simplified_version": "1.10.0",
        "version": "1.10.0",
        "revision": REVISION,
        "updated_at": None,
        "commit_count": 7,
        "yanked_at": None,
        "visibility": "public",
        "index": 5,
        "total": 6,
    }
    assert yanked["yanked_at"].endswith("Z")


def test_row_7_pages_are_there_for_whoever_asks_for_them(world: World) -> None:
    organization, project = world.web.split("/")
    rows = as_json(world.nobody.get("f", organization, project, "releases", query="offset=4"))
    assert [row["index"] for row in rows] == [5, 6]
    wrong = world.nobody.get("f", organization, project, "releases", query="offset=-1")
    assert (wrong.status, wrong.sentence) == (400, "The offset is a number of rows.")


@pytest.mark.parametrize(
    ("constraint", "found"),
    [
        ("*", ["1.10.0", "1.9.0", "1.0.0", ROLLING]),
        ("1.x", ["1.10.0", "1.9.0", "1.0.0"]),
        ("~1.9", ["1.9.0"]),
        ("^1.9", ["1.10.0", "1.9.0"]),
        (">=1, <1.10", ["1.9.0", "1.0.0"]),
        ("v1.9.0", ["1.10.0", "1.9.0"]),
        (f"={ROLLING}", [ROLLING]),
        ("=2.0.0-rc.1", ["2.0.0-rc.1"]),
        ("7", []),
    ],
)
def test_row_8_versions_that_match_come_with_the_highest_first(
    world: World, constraint: str, found: list[str]
) -> None:
    heard = world.nobody.list_versions(world.web, constraint)
    assert complete_versions(heard.read(list[FoundVersion])) == found


def test_row_9_the_best_release_is_shown_with_all_that_is_known_of_it(world: World) -> None:
    heard = world.nobody.metadata(world.web.upper(), "1.10")
    heard.read(Metadata)
    shown = as_json(heard)
    assert shown.pop("published_at") == shown.pop("created_at")
    pinned = shown.pop("download_url")
    assert pinned.startswith(f"{world.hub.url}/f/pinned/{world.org}/web/1.10.0/")
    assert pinned.endswith("/source.tar.gz")
    groups = shown.pop("outputs")
    assert shown == {
        "org": world.org,
        "project": "web",
        "version": "1.10.0",
        "simplified_version": "1.10.0",
        "revision": REVISION,
        "commit_count": 7,
        "description": "A pad for everybody",
        "visibility": "public",
        "labels": ["editor", "Nix"],
        "readme": None,
        "spdx_identifier": "MIT",
        "repo_url": "https://github.com/acme-inc/pad.git",
        "source_github_owner_repo_pair": "acme-inc/pad",
        "source_subdirectory": None,
        "updated_at": None,
        "yanked_at": None,
        "mirrored": False,
        "index": 5,
        "total": 6,
        "pretty_download_url": f"{world.hub.url}/f/{world.org}/web/1.10.0.tar.gz",
    }
    assert groups.keys() == {"nixosConfigurations", "packages"}


def test_row_9_the_outputs_are_grouped_by_kind_and_platform(world: World) -> None:
    packages = as_json(world.nobody.metadata(world.web, "1.10"))["outputs"]["packages"]
    assert (packages["name"], packages["doc"]) == ("packages", None)
    by_platform = {each["platform"]: each["outputs"] for each in packages["outputs"]}
    assert by_platform.keys() == {SYSTEM, "aarch64-linux"}
    assert by_platform["aarch64-linux"] == [
        {
            "doc": None,
            "for_systems": ["aarch64-linux"],
            "path": ["packages", "aarch64-linux", "far"],
            "short_description": None,
            "what": "package",
        }
    ]


@pytest.mark.parametrize("version", [1, 2])
def test_row_9_what_flakehub_push_said_of_the_outputs_is_shown(world: World, version: int) -> None:
    described = leaf(None, SYSTEM, shortDescription="A pad", what="editor")
    packages = {SYSTEM: {"pad": described, "x.y": leaf(None, SYSTEM)}}
    tree = {"packages": packages, "nixosModules": {"pad": leaf(None, what="NixOS module")}}
    acme = Acme(world.hub, visibility="public")
    name = f"{acme.organization}/web"
    Pusher(world.hub, acme.member, name, "v1.0.0", said={"outputs": inventory(tree, version)}).run()
    groups = as_json(world.nobody.metadata(name))["outputs"]
    pad = {
        "doc": None,
        "for_systems": [SYSTEM],
        "path": ["packages", SYSTEM, "pad"],
        "short_description": "A pad",
        "what": "editor",
    }
    dotted = {**pad, "path": ["packages", SYSTEM, "x.y"], "short_description": None, "what": "package"}
    assert groups["packages"] == {
        "name": "packages",
        "doc": "text",
        "outputs": [{"platform": SYSTEM, "outputs": [pad, dotted]}],
    }
    assert groups["nixosModules"]["outputs"][0]["platform"] is None


@pytest.mark.parametrize(
    ("requirement", "version"),
    [("0.1", ROLLING), ("=0.1.7", ROLLING), (f"={ROLLING}", ROLLING), ("1.9.0", "1.10.0"), ("~1.0", "1.0.0")],
)
def test_row_9_a_requirement_means_the_highest_release(world: World, requirement: str, version: str) -> None:
    shown = as_json(world.nobody.metadata(world.web, requirement))
    assert shown["version"] == version
    assert f"/{version.replace('+', '%2B')}/" in shown["download_url"]


@pytest.mark.parametrize(
    ("requirement", "status", "said"),
    [
        ("9", 404, "No release of {web} matches ^9."),
        ("=1.11.0", 410, "Release 1.11.0 of {web} was yanked: broken."),
        ("1 2", 400, "'1 2' is"),
    ],
)
def test_row_9_what_is_not_there_is_said_in_a_sentence(
    world: World, requirement: str, status: int, said: str
) -> None:
    heard = world.nobody.metadata(world.web, requirement)
    assert heard.status == status
    assert heard.sentence.startswith(said.format(web=world.web)), heard.sentence


def test_row_10_without_a_requirement_the_latest_release_is_shown(world: World) -> None:
    latest = as_json(world.nobody.metadata(world.web))
    assert latest == as_json(world.nobody.metadata(world.web, "*"))
    assert latest["version"] == "1.10.0"
    missing = world.nobody.metadata(f"{world.org}/none")
    assert (missing.status, missing.sentence[:7]) == (404, "There i")


def test_row_11_an_output_is_one_store_path(world: World) -> None:
    heard = world.nobody.resolve(f"{world.web}/1.10#{ATTRIBUTE}")
    assert (heard.status, heard.headers["cache-control"]) == (200, "no-store")
    assert as_json(heard) == {
        "attribute_path": ATTRIBUTE,
        "store_path": world.paths[ATTRIBUTE],
        "token": None,
    }


@pytest.mark.parametrize("fh", ["nobody", "member"])
def test_row_11_with_a_token_that_reads_its_closure_alone(world: World, fh: str) -> None:
    asking: Fh = getattr(world, fh)
    found = asking.resolve(f"{world.web}/=1.10.0#{ATTRIBUTE}", include_token=True).read(Output)
    assert found.token is not None

    def narinfo(path: str) -> int:
        return world.hub.request("GET", f"/{path[11:43]}.narinfo", token=found.token).status

    assert narinfo(found.store_path) == 200
    assert narinfo(world.paths[SLASHED]) == 404


def test_row_11_only_the_words_include_token_true_ask_for_a_token(world: World) -> None:
    place = f"/f/{world.web}/1.10/output/{ATTRIBUTE}"
    for query in ("include_token=false", "include_token=1", "token=true"):
        assert world.nobody.raw(f"{place}?{query}").read(Output).token is None


@pytest.mark.parametrize(
    "reference",
    [
        "{web}/1.10#packages.x86_64-linux.none",
        "{web}/9#" + ATTRIBUTE,
        "{web}/=1.11.0#" + ATTRIBUTE,
        "{web}/1.10#" + FAR,
        "{web}/one#" + ATTRIBUTE,
        "{web}/1.10#a..b",
        "{org}/none/1#" + ATTRIBUTE,
        "{vault}/1#" + ATTRIBUTE,
        "none/none/1#" + ATTRIBUTE,
    ],
)
def test_row_11_whatever_is_not_there_is_a_404(world: World, reference: str) -> None:
    asked = reference.format(web=world.web, vault=world.vault, org=world.org)
    heard = world.stranger.resolve(asked, include_token=True)
    assert heard.status == 404
    assert heard.sentence


def test_an_output_whose_paths_are_still_missing_says_how_many(world: World) -> None:
    heard = world.nobody.resolve(f"{world.web}/1.10#{FAR}")
    assert "1 path of its closure is missing" in heard.sentence


def test_the_outputs_of_a_release_are_a_tree_of_store_paths(world: World) -> None:
    organization, project = world.web.split("/")
    tree: dict[str, Any] = as_json(world.nobody.get("f", organization, project, "1.10", "outputs"))
    assert tree == {
        "nixosConfigurations": {"web": world.paths[ATTRIBUTE]},
        "packages": {SYSTEM: {"a/b": world.paths[SLASHED], "x.y": world.paths[DOTTED]}},
    }


def test_addresses_are_made_of_the_hubs_public_url(tmp_path: Path) -> None:
    hub = Hub(tmp_path / "hub", options=("--public-url", "https://hub.example.org/"))
    try:
        hub.start()
        listening = hub.listen
        acme = Acme(hub, visibility="public")
        acme.publish("1.0.0", chain("app", 1))
        shown = as_json(Fh(f"http://{listening}").metadata(f"{acme.organization}/web"))
    finally:
        hub.close()
    base = "https://hub.example.org/f"
    assert shown["pretty_download_url"] == f"{base}/{acme.organization}/web/1.0.0.tar.gz"
    assert shown["download_url"].startswith(f"{base}/pinned/{acme.organization}/web/1.0.0/")


def test_too_many_requests_are_told_in_a_sentence_too(tmp_path: Path) -> None:
    hub = Hub(tmp_path / "hub", options=("--sign-ins", "1", "--resolutions", "1"))
    try:
        fh = Fh(hub.start().url)
        acme = Acme(hub, visibility="public")
        assert fh.status().status == 401
        assert fh.resolve(f"{acme.organization}/web/1#x").status == 404
        for heard in (fh.status(), fh.resolve(f"{acme.organization}/web/1#x")):
            assert heard.status == 429
            assert heard.sentence.startswith("Too many requests")
            assert int(heard.headers["retry-after"]) <= 60
    finally:
        hub.close()
