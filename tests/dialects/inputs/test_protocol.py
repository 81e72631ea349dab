"""The exchanges of Nix's protocol for tarballs that can be locked, request by request, on both engines."""

import base64
import re

import pytest

from tests.hub.conftest import shared_hub
from tests.hub.process import Answer, Hub, wait_for
from tests.hub.publishing import REVISION, Acme, chain
from tests.running.closures import ATTRIBUTE, make_source

__all__ = ["shared_hub"]

# As Nix reads it, to the letter: nothing may stand after it.
LINK = re.compile(r'<([^>]*)>; rel="immutable"')


@pytest.fixture
def acme(shared_hub: Hub) -> Acme:
    return Acme(shared_hub)


def publish(acme: Acme, version: str, **metadata: object) -> str:
    """A release with one source for all; its id."""
    said = {"revision": REVISION, "commit_count": 7, **metadata}
    identifier: str = acme.publish(version, chain("app"), metadata=said)["release_id"]
    return identifier


def ask(acme: Acme, requirement: str, **more: object) -> Answer:
    return acme.ask("GET", f"/f/{acme.organization}/web/{requirement}", **more)


def pinned(acme: Acme, answer: Answer) -> str:
    """The path that an answer leads to."""
    assert answer.status == 307, answer.body
    location: str = answer.headers["location"]
    return location.removeprefix(acme.hub.url)


def test_row_16_a_requirement_leads_to_a_pinned_address(acme: Acme) -> None:
    release = publish(acme, f"0.1.7+rev-{REVISION}")
    answer = ask(acme, "0.1")
    place = f"/f/pinned/{acme.organization}/web/0.1.7%2Brev-{REVISION}/{release}/source.tar.gz"
    assert pinned(acme, answer) == place
    assert answer.headers["cache-control"] == "no-cache"
    assert ask(acme, "0.2").status == ask(acme, "nonsense").status + 4 == 404
    assert acme.ask("HEAD", f"/f/{acme.organization}/web/0.1").status == 307
    assert acme.ask("GET", f"/f/{acme.organization.upper()}/WEB/0.1").headers["location"].endswith(place)


def test_row_17_a_pinned_address_gives_the_source_and_nothing_else_does(acme: Acme) -> None:
    publish(acme, "1.0.0")
    place = pinned(acme, ask(acme, "1"))
    got = acme.ask("GET", place)
    assert (got.status, got.body) == (200, make_source("a flake"))
    assert got.headers["content-type"] == "application/gzip"
    assert "immutable" in got.headers["cache-control"]
    head = acme.ask("HEAD", place)
    assert (head.status, head.headers["content-length"]) == (200, str(len(got.body)))
    part = acme.ask("GET", place, headers={"Range": "bytes=10-"})
    assert (part.status, part.body) == (206, got.body[10:])
    for wrong in (
        place.replace("1.0.0", "1.0.1"),
        place.replace("/web/", "/other/"),
        place[:-20] + place[-19:],
    ):
        assert acme.ask("GET", wrong).status == 404


def test_row_17_yanked_releases_stay_and_deleted_ones_are_gone(acme: Acme) -> None:
    publish(acme, "1.0.0")
    place = pinned(acme, ask(acme, "1"))
    acme.hub.as_admin("PUT", f"{acme.base}/releases/1.0.0/yank", json={"reason": "broken"})
    assert ask(acme, "1").status == 404
    assert ask(acme, "=1.0.0").status == 410
    assert acme.ask("GET", place).status == 200
    acme.hub.as_admin("DELETE", acme.base)
    gone = acme.ask("GET", place)
    assert gone.status == 410
    assert gone.json().startswith(f"Release 1.0.0 of {acme.organization}/web was deleted.")
    assert acme.ask("GET", place.replace("1.0.0", "1.0.1")).status == 404
    # Somebody else's eyes see what they saw before: nothing.
    never = acme.hub.request("GET", place.replace("/web/", "/none/"))
    for stranger in (Acme(acme.hub).member, None):
        answer = acme.hub.request("GET", place, token=stranger)
        assert (answer.status, answer.body) == (404, never.body)


def test_row_17_one_release_is_deleted_and_its_version_never_given_out_again(acme: Acme) -> None:
    for version in ("1.0.0", "1.1.0+one"):
        publish(acme, version)
    place = pinned(acme, ask(acme, "1"))
    kept = pinned(acme, ask(acme, "=1.0.0"))
    token = acme.resolve("1").json()["token"]
    member, admin = acme.member, acme.hub.admin
    for who, status in ((member, 403), (None, 404), (admin, 204), (admin, 404)):
        answer = acme.hub.request("DELETE", f"{acme.base}/releases/1.1.0", token=who)
        assert answer.status == status
    assert acme.ask("GET", place).status == 410
    assert acme.hub.request("GET", place).status == 404
    assert acme.ask("GET", kept).status == 200
    assert pinned(acme, ask(acme, "1")) == kept
    assert [each["version"] for each in acme.ask("GET", f"{acme.base}/releases").json()] == ["1.0.0"]
    path = chain("app")[-1]
    wait_for(lambda: acme.narinfo(path, token=token).status == 401)
    for version in ("1.1.0", "1.1.0+two"):
        said = {"version": version, "metadata": {"revision": REVISION}}
        refused = acme.ask("POST", f"{acme.base}/publications", json=said)
        assert (refused.status, refused.ref) == (409, "version-deleted")
    publish(acme, "1.2.0")
    # What has come after decides who is told of what was before.
    acme.hub.as_admin("PATCH", acme.base, json={"visibility": "public"})
    assert acme.hub.request("GET", place).status == 410
    acme.hub.as_admin("PATCH", acme.base, json={"visibility": "private"})
    acme.hub.as_admin("DELETE", acme.base)
    assert acme.hub.request("GET", place).status == 404
    assert acme.ask("GET", place).status == acme.ask("GET", kept).status == 410


def test_row_17_a_publication_that_was_open_when_its_version_went_ends_in_nothing(acme: Acme) -> None:
    closure = chain("app")
    late = acme.open("1.0.0")
    publish(acme, "1.0.0")
    acme.hub.as_admin("DELETE", f"{acme.base}/releases/1.0.0")
    late.declare(closure, {ATTRIBUTE: closure[-1]})
    late.source()
    assert late.finish().ref == "version-deleted"
    assert ask(acme, "1").status == 404


def test_row_17_another_project_of_the_name_tells_nothing_of_the_one_before(acme: Acme) -> None:
    publish(acme, "1.0.0")
    place = pinned(acme, ask(acme, "1"))
    acme.hub.as_admin("DELETE", acme.base)
    acme.add_project("web", "public")
    publish(acme, "1.0.0")
    assert acme.ask("GET", place).status == 410
    assert acme.hub.request("GET", place).status == 404
    now = pinned(acme, ask(acme, "1"))
    assert acme.hub.request("GET", now).status == 200
    acme.hub.as_admin("DELETE", acme.base)
    assert acme.hub.request("GET", now).status == 410


def test_gotcha_17_the_token_is_taken_in_each_scheme(acme: Acme) -> None:
    publish(acme, "1.0.0")
    basic = base64.b64encode(f"flakehub:{acme.member}".encode()).decode()
    for scheme in (f"Basic {basic}", f"Bearer {acme.member}", f"bearer {acme.member}", f"basic {basic}"):
        answer = ask(acme, "1", token=None, headers={"Authorization": scheme})
        assert answer.status == 307
    refused = ask(acme, "1", token=None, headers={"Authorization": "Bearer nonsense"})
    assert refused.status == 401
    assert isinstance(refused.json(), str)


def test_gotcha_18_every_address_is_one_of_the_public_address(acme: Acme) -> None:
    """A netrc knows hosts alone, so a redirect to another one would lose the credential."""
    publish(acme, "1.0.0")
    answer = ask(acme, "1", headers={"Host": "localhost"})
    assert answer.headers["location"].startswith(f"{acme.hub.url}/f/pinned/")
    assert answer.headers["link"].startswith(f"<{acme.hub.url}/f/pinned/")


def test_gotcha_20_each_release_has_an_etag_of_its_own(acme: Acme) -> None:
    etags = set()
    for version in ("1.0.0", "1.0.1"):
        publish(acme, version)
        got = acme.ask("GET", pinned(acme, ask(acme, f"={version}")))
        assert re.fullmatch('"[0-9a-f-]{36}"', got.headers["etag"])
        etags.add(got.headers["etag"])
        again = acme.ask("GET", pinned(acme, ask(acme, "1")), headers={"If-None-Match": got.headers["etag"]})
        assert (again.status, again.headers["link"]) == (304, got.headers["link"])
        assert "etag" not in ask(acme, "1").headers
    assert len(etags) == 2
    older = acme.ask("GET", pinned(acme, ask(acme, "1")), headers={"If-None-Match": min(etags)})
    assert older.status == 200


def test_gotcha_21_the_link_is_exactly_what_nix_reads(acme: Acme) -> None:
    publish(acme, "1.0.0")
    publish(acme, "1.0.1", commit_count=None)
    publish(acme, "1.0.2", revision=None, commit_count=None)
    for version, query in (
        ("1.0.0", f"?rev={REVISION}&revCount=7"),
        ("1.0.1", f"?rev={REVISION}"),
        ("1.0.2", ""),
    ):
        moved = ask(acme, f"={version}")
        match = LINK.fullmatch(moved.headers["link"])
        assert match is not None
        assert match[1] == moved.headers["location"] + query
        assert acme.ask("GET", pinned(acme, moved)).headers["link"] == moved.headers["link"]
        # The address with the attributes, as a lock may have it, is the same place.
        assert acme.ask("GET", pinned(acme, moved) + query).status == 200


@pytest.mark.parametrize(
    "written",
    [
        "*",
        "%2A",
        "=0.1.7",
        "%3D0.1.7",
        "~0.1",
        "%7E0.1",
        "^0.1",
        "%5E0.1",
        "0.1.*",
        "0.1.%2A",
        "=0.1.7+rev-x",
        "%3D0.1.7%2Brev-x",
        "%3E=0.1,%3C0.2",
        "%3E%3D0.1%2C%20%3C0.2",
        "v0.1",
        "=v0.1.7",
    ],
)
def test_gotcha_22_and_28_operators_are_taken_encoded_and_not_with_and_without_suffix(
    acme: Acme, written: str
) -> None:
    publish(acme, f"0.1.7+rev-{REVISION}")
    for suffix in ("", ".tar.gz"):
        assert f"/0.1.7%2Brev-{REVISION}/" in pinned(acme, ask(acme, written + suffix))


def test_gotcha_22_a_plus_is_a_plus_in_a_pinned_address_too(acme: Acme) -> None:
    publish(acme, f"0.1.7+rev-{REVISION}")
    place = pinned(acme, ask(acme, "*"))
    assert acme.ask("GET", place.replace("%2B", "+")).status == 200
    assert acme.ask("GET", place.replace("%2B", "%2b")).status == 200
    assert acme.ask("GET", place.replace("%2B", "%20")).status == 404


def test_gotcha_32_the_highest_version_wins_and_never_a_yanked_one(acme: Acme) -> None:
    for version in ("1.2.0", "1.10.0", "1.9.0", "2.0.0-rc.1"):
        publish(acme, version)
    for requirement, version in (
        ("*", "1.10.0"),
        ("1", "1.10.0"),
        ("~1.2", "1.2.0"),
        ("2.0.0-rc.1", "2.0.0-rc.1"),
    ):
        assert f"/{version}/" in pinned(acme, ask(acme, requirement))
    acme.hub.as_admin("PUT", f"{acme.base}/releases/1.10.0/yank", json={})
    assert "/1.9.0/" in pinned(acme, ask(acme, "*"))


def test_gotcha_35_public_and_unlisted_inputs_need_no_credential(acme: Acme) -> None:
    publish(acme, "1.0.0")
    assert ask(acme, "1", token=None).status == 404
    for visibility in ("public", "unlisted"):
        acme.hub.as_admin("PATCH", acme.base, json={"visibility": visibility})
        place = pinned(acme, ask(acme, "1", token=None))
        assert acme.hub.request("GET", place).status == 200


def test_gotcha_36_nothing_is_compressed_unasked(acme: Acme) -> None:
    publish(acme, "1.0.0")
    place = pinned(acme, ask(acme, "1"))
    got = acme.ask("GET", place, headers={"Accept-Encoding": "zstd, gzip, br"})
    assert "content-encoding" not in got.headers
