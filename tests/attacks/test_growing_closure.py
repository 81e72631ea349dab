"""Growing closure: what is published, pushed or repaired later is to widen a closure token that lives."""

from dataclasses import dataclass

import pytest

from tests.running.closures import ATTRIBUTE, Member, member, publish
from tests.running.tenants import Tenant, client_of

NOTES = "packages.x86_64-linux.notes"


@dataclass(frozen=True)
class Living:
    """A token that lives, and what it reads."""

    token: str
    closure: list[Member]
    project: Tenant


@pytest.fixture(scope="module")
def living(acme: Tenant) -> Living:
    """The token of somebody who may resolve any version, taken before anything grows."""
    project = acme.another_project("growing")
    shared = member("shared", "growing", b"shared")
    system = member("system", "growing", b"system", [shared.path])
    with project.client() as client:
        publish(client, project.organization, project.project, "1.0.0", [shared, system])
    parent = project.resolve_only("*", ATTRIBUTE)
    with client_of(project.hub, parent) as client:
        found = client.resolve(project.organization, project.project, "*", ATTRIBUTE, token=True)
    return Living(str(found.token), [shared, system], project)


def reads(living: Living, each: Member) -> set[int]:
    """Everything that a cache has of a path, with the token."""
    tails = [f"{each.path.hash_part}.narinfo", f"{each.path.hash_part}.ls"]
    tails.append(f"nar/{each.nar_hash.base32}.nar.zst")
    hub, cache = living.project.hub, living.project.cache_path
    places = [f"{place}/{tail}" for place in (cache, "") for tail in tails]
    return {hub.request("GET", place, token=living.token).status for place in places}


def assert_not_grown(living: Living, *more: Member) -> None:
    assert {status for each in living.closure for status in reads(living, each)} == {200}
    for each in more:
        assert reads(living, each) == {404}, each.path


def test_growing_closure_by_a_later_release(living: Living) -> None:
    later = member("later", "growing", b"later", [living.closure[0].path])
    with living.project.client() as client:
        members = [living.closure[0], later]
        publish(client, living.project.organization, living.project.project, "2.0.0", members)
    assert_not_grown(living, later)


def test_growing_closure_by_another_output_of_the_same_release(living: Living) -> None:
    """A second machine publishes the same version with another output beside the one that is there."""
    project, notes = living.project, member("notes", "growing", b"notes", [living.closure[0].path])
    with project.client() as client:
        outputs = {ATTRIBUTE: living.closure[1], NOTES: notes}
        publish(
            client, project.organization, project.project, "1.1.0", [*living.closure, notes], outputs=outputs
        )
    with client_of(project.hub, project.token) as client:
        same = client.resolve(project.organization, project.project, "1.1.0", ATTRIBUTE, token=True)
        assert client.resolve(project.organization, project.project, "1.1.0", NOTES).store_path == str(
            notes.path
        )
    # It is the same closure in both releases, and a token for it that is new does not read the other output.
    for token in (living.token, str(same.token)):
        assert_not_grown(Living(token, living.closure, project), notes)


def test_growing_closure_by_what_a_stock_client_pushes(living: Living) -> None:
    """A path with the name of the closure's root, which refers into the closure."""
    project = living.project
    pushed = member("system", "pushed", b"pushed", [each.path for each in living.closure])
    put = project.hub.request(
        "PUT", f"{project.cache_path}/nar/{pushed.nar_hash.base32}.nar", token=project.token, body=pushed.nar
    )
    assert put.status < 300, put.body
    text = (
        f"StorePath: {pushed.path}\nURL: nar/{pushed.nar_hash.base32}.nar\nCompression: none\n"
        f"NarHash: {pushed.nar_hash.nix32()}\nNarSize: {len(pushed.nar)}\n"
        f"References: {' '.join(path.base_name for path in pushed.references)}\n"
    )
    place = f"{project.cache_path}/{pushed.path.hash_part}.narinfo"
    put = project.hub.request("PUT", place, token=project.token, body=text.encode())
    assert put.status < 300, put.body
    assert project.hub.request("GET", place, token=project.token).status == 200
    assert_not_grown(living, pushed)


def test_growing_closure_by_describing_a_path_of_it_anew(living: Living) -> None:
    """The narinfo of a path that the token reads is put again, with a reference that it did not have."""
    project, shared = living.project, living.closure[0]
    extra = member("extra", "growing", b"extra")
    with project.client() as client:
        publish(client, project.organization, project.project, "3.0.0", [extra])
    place = f"{project.cache_path}/{shared.path.hash_part}.narinfo"
    before = project.hub.request("GET", place, token=living.token).body
    changed = before.decode().replace("References:", f"References: {extra.path.base_name}")
    project.hub.request("PUT", place, token=project.token, body=changed.encode())
    assert project.hub.request("GET", place, token=living.token).body == before
    assert_not_grown(living, extra)
