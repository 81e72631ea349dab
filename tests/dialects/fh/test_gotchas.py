"""What surprises whoever serves `fh`, by its number in the list of what its authors' server does."""

import base64
import json
from urllib.parse import quote, urlsplit

import pytest

from piste.hub.flakehub.shapes import release_object
from piste.wire.releases import Release, ReleaseDetails
from tests.dialects.fh.client import (
    USER_AGENT,
    Fh,
    FoundVersion,
    Heard,
    Metadata,
    Output,
    as_json,
    complete_versions,
    exchange,
    segment,
    twice,
)
from tests.dialects.fh.conftest import DOTTED, ROLLING, SAID, SLASHED, World
from tests.hub.publishing import make_tar
from tests.running.closures import ATTRIBUTE


def list_targets(world: World) -> list[str]:
    """One address of each route whose status `fh` ignores."""
    return [
        "/flakes",
        "/search?q=web",
        "/label/nix",
        "/orgs?include_public=true",
        f"/orgs/{world.org}/projects",
        f"/f/{world.vault}/releases",
        f"/version/resolve/{world.vault}/%252A",
    ]


def public_targets(world: World) -> list[str]:
    """One address of each route that reads something public."""
    return [
        *[target.replace("vault", "web") for target in list_targets(world)],
        f"/f/{world.web}",
        f"/version/{world.web}/1",
        f"/f/{world.web}/1.10/outputs",
        f"/f/{world.web}/1.10/output/{ATTRIBUTE}",
    ]


@pytest.mark.parametrize(
    ("constraint", "wire", "found"),
    [
        ("*", "%252A", ["1.10.0", "1.9.0", "1.0.0", ROLLING]),
        ("0.1.*", "0.1.%252A", [ROLLING]),
        ("~1.9", "~1.9", ["1.9.0"]),
        (f"={ROLLING}", f"%253D0.1.7%252Brev-{'d' * 40}", [ROLLING]),
        (">=1, <1.10", "%253E%253D1%252C%2520%253C1.10", ["1.9.0", "1.0.0"]),
    ],
)
def test_gotcha_1_a_constraint_that_is_encoded_twice_is_decoded_twice(
    world: World, constraint: str, wire: str, found: list[str]
) -> None:
    assert twice(constraint) == wire
    for encoded in (wire, quote(constraint, safe=""), segment(constraint)):
        heard = world.nobody.raw(f"/version/resolve/{world.web}/{encoded}")
        assert complete_versions(heard.read(list[FoundVersion])) == found, encoded


def test_gotcha_1_everything_else_is_decoded_once(world: World) -> None:
    for target in (f"/version/{world.web}/1.%252A", f"/f/{world.web}/1.%252A/output/{ATTRIBUTE}"):
        assert world.nobody.raw(target).status in (400, 404)


def test_gotcha_3_a_slash_within_an_attribute_path_divides_nothing(world: World) -> None:
    for asked in (f"packages.x86_64-linux.{segment('a/b')}", segment(SLASHED)):
        found = world.nobody.raw(f"/f/{world.web}/1.10/output/{asked}").read(Output)
        assert found.store_path == world.paths[SLASHED]
    assert world.nobody.raw(f"/f/{world.web}/1.10/output/packages.x86_64-linux.a/b").status == 404


@pytest.mark.parametrize("requirement", [f"={ROLLING}", f"=v{ROLLING}", segment(f"= {ROLLING}")])
def test_gotcha_3_a_plus_is_a_plus(world: World, requirement: str) -> None:
    assert "+rev-" in requirement
    found = as_json(world.nobody.raw(f"/version/{world.web}/{requirement}"))
    assert found["version"] == ROLLING


@pytest.mark.parametrize("odd", ["^1.10", "1.10|", "[1.10]", "1.10^^", "{1}", "1.10'", "(1)", "$1", "é"])
def test_gotcha_3_what_arrives_raw_in_the_request_line_is_read_as_it_is(world: World, odd: str) -> None:
    heard = world.nobody.resolve(f"{world.web}/{odd}#{ATTRIBUTE}")
    assert heard.status == (200 if odd == "^1.10" else 404)
    assert json.loads(heard.body)
    attribute = world.nobody.resolve(f"{world.web}/1.10#packages.{odd}.[x]|y")
    assert (attribute.status, attribute.sentence != "") == (404, True)


def test_gotcha_3_names_that_hold_dots_need_no_quotes(world: World) -> None:
    for asked in ("packages.x86_64-linux.x.y", DOTTED):
        found = world.nobody.resolve(f"{world.web}/1.10#{asked}").read(Output)
        assert (found.store_path, found.attribute_path) == (world.paths[DOTTED], DOTTED)


def test_gotcha_4_an_output_is_answered_with_exactly_200(world: World) -> None:
    for fh in (world.nobody, world.member):
        for include in (False, True):
            assert fh.resolve(f"{world.web}/1#{ATTRIBUTE}", include_token=include).status == 200


def test_gotcha_5_no_error_of_a_listing_looks_like_a_result(world: World) -> None:
    bound = {"project": "vault", "requirement": "1", "attribute": ATTRIBUTE}
    resolve_only = world.hub.make_token(world.org, kind="resolve-only", **bound)
    for token, allowed in ((resolve_only, {403, 404}), ("piste_user_wrong", {401})):
        for target in list_targets(world):
            heard = world.nobody.raw(target, token=token)
            assert heard.status in allowed, (target, heard.status)
            assert heard.sentence
    assert world.nobody.list_releases(world.vault).sentence
    assert world.nobody.list_versions(world.web, "1 2").sentence


def test_gotcha_6_a_search_needs_no_credential_and_sees_what_nobody_sees(world: World) -> None:
    anonymous = world.nobody.search(world.org)
    assert world.member.search(world.org).body == anonymous.body
    assert [row["project"] for row in as_json(anonymous)] == ["web"]
    assert isinstance(as_json(world.nobody.raw("/search")), list)


def test_gotcha_7_who_may_not_is_answered_401_and_what_is_not_there_404(world: World) -> None:
    bound = {"project": "vault", "requirement": "1", "attribute": ATTRIBUTE}
    fh = Fh(world.hub.url, world.hub.make_token(world.org, kind="resolve-only", **bound))
    assert fh.resolve(f"{world.vault}/1#{ATTRIBUTE}", include_token=True).status == 200
    for refused in (f"{world.vault}/1#{DOTTED}", f"{world.vault}/*#{ATTRIBUTE}"):
        heard = fh.resolve(refused)
        assert (heard.status, heard.sentence.startswith("This token")) == (401, True)
    assert fh.resolve(f"{world.web}/1#{ATTRIBUTE}").status == 404
    assert world.nobody.resolve(f"{world.vault}/1#{ATTRIBUTE}").status == 404
    assert Fh(world.hub.url, "no-token").resolve(f"{world.web}/1#{ATTRIBUTE}").status == 401


def test_what_is_invisible_is_answered_to_the_letter_like_what_is_missing(world: World) -> None:
    for place in ("/f/{}", "/f/{}/releases", "/version/{}/1", "/version/resolve/{}/1", "/f/{}/1/output/x"):
        hidden = world.stranger.get(place.format(world.vault)[1:])
        missing = world.stranger.get(place.format(f"{world.org}/none")[1:])
        assert (hidden.status, hidden.body) == (missing.status, missing.body)
        assert {*hidden.headers} == {*missing.headers}


def test_gotcha_8_both_versions_of_a_row_are_complete(world: World) -> None:
    rows = world.nobody.list_versions(world.web, "*").read(list[FoundVersion])
    assert len(complete_versions(rows)) == 4


def test_gotcha_9_counts_are_integers_and_dates_have_an_offset(world: World) -> None:
    rows = as_json(world.nobody.list_releases(world.web))
    assert {type(row["commit_count"]) for row in rows} == {int, type(None)}
    for row in rows:
        assert row["published_at"][-1] == "Z" and "T" in row["published_at"]


@pytest.mark.parametrize("requirement", ["v1.0.0", "=v1.10.0", "=1.10.0", "v1.10.0.tar.gz"])
def test_gotcha_10_a_v_before_a_version_is_read_over(world: World, requirement: str) -> None:
    assert as_json(world.nobody.metadata(world.web, requirement))["version"] == "1.10.0"
    assert world.nobody.resolve(f"{world.web}/{requirement}#{ATTRIBUTE}").status == 200
    heard = world.nobody.list_versions(world.web, requirement)
    assert "1.10.0" in complete_versions(heard.read(list[FoundVersion]))


def test_gotcha_11_the_root_of_a_repository_is_null_and_a_folder_its_path(world: World) -> None:
    world.acme.add_project("below", "unlisted")
    said = {**SAID, "subdirectory": "flakes/pad"}
    filling = world.acme.open("1.0.0", "below", metadata=said)
    filling.declare([], {})
    assert filling.source(make_tar({"source/flake.nix": b"{ outputs = _: { }; }"})).status == 204
    assert filling.finish().status == 200
    shown = world.nobody.metadata(f"{world.org}/below").read(Metadata)
    assert shown.source_subdirectory == "flakes/pad"
    assert world.nobody.metadata(world.web).read(Metadata).source_subdirectory is None


@pytest.mark.parametrize(
    ("repository", "pair"),
    [
        ("https://github.com/acme-inc/pad.git", "acme-inc/pad"),
        ("ssh://git@github.com/acme-inc/pad", "acme-inc/pad"),
        ("https://git.example.org/a/b/c", "acme/web"),
        ("https://git.example.org", "acme/web"),
        (None, "acme/web"),
    ],
)
def test_gotcha_11_an_empty_folder_becomes_null_and_the_pair_is_never(
    repository: str | None, pair: str
) -> None:
    release = Release("id", "acme", "web", "1.0.0", rolling=False, published_at=0)
    details = ReleaseDetails(release, [], "http://hub/f/pinned/x", repository=repository, subdirectory="")
    shown = release_object(details, "public", "http://hub", (1, 1), None)
    assert (shown.source_subdirectory, shown.source_github_owner_repo_pair) == (None, pair)


def test_gotcha_17_one_token_is_good_in_every_scheme(world: World) -> None:
    host = urlsplit(world.hub.url).netloc

    def ask(target: str, credential: str) -> Heard:
        lines = f"GET {target} HTTP/1.1\r\nauthorization: {credential}\r\nhost: {host}\r\n\r\n"
        return exchange(host, lines.encode())

    token = world.acme.member
    basic = base64.b64encode(f"flakehub:{token}".encode()).decode()
    other = base64.b64encode(f"anybody:{token}".encode()).decode()
    schemes = (f"Bearer {token}", f"bearer {token}", f"BEARER {token}", f"Basic {basic}", f"basic {other}")
    for target in ("/cli/status", *[each.replace("/web", "/vault") for each in public_targets(world)]):
        asked = target.replace("1.10", "1")
        answers = {ask(asked, scheme).body for scheme in schemes}
        assert len(answers) == 1, asked
        assert ask(asked, schemes[0]).status == 200, asked


def test_gotcha_22_operators_may_be_encoded_or_not(world: World) -> None:
    for requirement in ("*", "=1.9.0", f"={ROLLING}"):
        bodies = {
            world.nobody.raw(f"/version/{world.web}/{written}").body
            for written in (segment(requirement), quote(requirement, safe=""))
        }
        assert len(bodies) == 1


def test_gotcha_28_an_address_works_with_and_without_its_ending(world: World) -> None:
    shown = world.nobody.metadata(world.web).read(Metadata)
    for address in (shown.pretty_download_url, shown.pretty_download_url.removesuffix(".tar.gz")):
        answer = world.hub.request("GET", address.removeprefix(world.hub.url))
        assert answer.status in (200, 307)
        assert 'rel="immutable"' in answer.headers["link"]
        asked = f"{address.removeprefix(world.hub.url)[3:]}"
        requirement = asked.rsplit("/", 1)[1]
        assert as_json(world.nobody.metadata(world.web, requirement))["version"] == shown.version


def test_gotcha_32_the_highest_wins_not_the_latest_and_no_yanked_or_unfinished_one(world: World) -> None:
    newest_first = as_json(world.nobody.list_releases(world.web))
    assert [row["version"] for row in newest_first][:4] == ["1.11.0", ROLLING, "2.0.0-rc.1", "1.9.0"]
    for requirement in ("*", "1", ">=1"):
        assert as_json(world.nobody.metadata(world.web, requirement))["version"] == "1.10.0"
    listed = world.nobody.list_versions(world.web, "*").read(list[FoundVersion])
    assert not {"1.11.0", "2.0.0-rc.1"} & {row.version for row in listed}


def test_gotcha_35_what_is_public_is_read_by_nobody_in_particular(world: World) -> None:
    for target in public_targets(world):
        assert world.nobody.raw(target).status == 200, target


def test_gotcha_36_an_answer_is_plain_whatever_else_would_be_taken(world: World) -> None:
    host = urlsplit(world.hub.url).netloc
    for target in public_targets(world):
        request = f"GET {target} HTTP/1.1\r\nhost: {host}\r\naccept-encoding: gzip, br, zstd\r\n\r\n"
        heard = exchange(host, request.encode())
        assert (heard.status, heard.headers["content-encoding"]) == (200, None)
        assert heard.headers["content-length"] == str(len(heard.body))


@pytest.mark.parametrize("agent", [USER_AGENT, None])
def test_nobody_has_to_say_which_program_asks(world: World, agent: str | None) -> None:
    host = urlsplit(world.hub.url).netloc
    line = f"user-agent: {agent}\r\n" if agent else ""
    for target in public_targets(world):
        request = f"GET {target} HTTP/1.1\r\nhost: {host}\r\n{line}\r\n"
        assert exchange(host, request.encode()).status == 200
