"""Organizations, members, upstreams: what is possible, and for whom."""

import pytest

from piste.nix.signature import PublicKey, SecretKey
from tests.hub.process import Answer, Hub

BASE = "/api/v1/organizations"


def test_an_organization_has_a_key_from_its_first_moment_and_its_maker_owns_it(hub: Hub) -> None:
    made = hub.as_admin("POST", BASE, json={"name": "Acme"})
    key = PublicKey.parse(made["public_keys"][0])
    assert key.name == "acme-1"
    assert hub.as_admin("GET", f"{BASE}/acme") == made
    assert [(each["person"], each["role"]) for each in hub.as_admin("GET", f"{BASE}/acme/members")] == [
        ("admin", "owner")
    ]
    assert hub.command("public-key", "--org", "acme").stdout == f"{key}\n"
    status = hub.as_admin("GET", "/api/v1/status")
    assert status["organizations"] == ["Acme"]
    assert status["public_keys"] == {"Acme": [str(key)]}


def test_members_come_change_and_go(hub: Hub) -> None:
    hub.as_admin("POST", BASE, json={"name": "acme"})
    token = hub.make_member("acme", "mona")
    assert hub.request("GET", f"{BASE}/acme", token=token).status == 200
    assert hub.request("GET", "/api/v1/status", token=token).json()["organizations"] == ["acme"]
    hub.as_admin("POST", f"{BASE}/acme/members", json={"person": "mona", "role": "admin"})
    assert hub.request("GET", f"{BASE}/acme/tokens", token=token).status == 200
    hub.as_admin("DELETE", f"{BASE}/acme/members/mona")
    # The token was the organization's: it has ended with the membership.
    assert hub.request("GET", f"{BASE}/acme", token=token).status == 401


def test_only_owners_make_and_unmake_owners_and_one_stays(sqlite_hub: Hub) -> None:
    sqlite_hub.as_admin("POST", BASE, json={"name": "owned"})
    admin = sqlite_hub.make_member("owned", "ada", "admin")
    owner = sqlite_hub.make_member("owned", "olga", "owner")
    members = f"{BASE}/owned/members"

    def put(token: str, person: str, role: str) -> Answer:
        return sqlite_hub.request("POST", members, token=token, json={"person": person, "role": role})

    assert put(admin, "ada", "owner").status == 403
    assert put(admin, "olga", "member").status == 403
    assert put(admin, "new", "member").status == 201
    assert sqlite_hub.request("DELETE", f"{members}/olga", token=admin).status == 403
    assert sqlite_hub.request("DELETE", f"{members}/admin", token=owner).status == 204
    assert put(owner, "olga", "member").ref == "bad-request"
    assert sqlite_hub.request("DELETE", f"{members}/olga", token=owner).ref == "bad-request"
    assert put(owner, "ada", "owner").status == 201
    assert put(owner, "olga", "member").status == 201
    assert sqlite_hub.request("DELETE", f"{members}/nobody", token=sqlite_hub.admin).status == 404


def test_a_member_reads_and_does_not_rule(sqlite_hub: Hub) -> None:
    sqlite_hub.as_admin("POST", BASE, json={"name": "ruled"})
    member = sqlite_hub.make_member("ruled", "mona")
    assert sqlite_hub.request("GET", f"{BASE}/ruled/members", token=member).status == 200
    refused = sqlite_hub.request("POST", f"{BASE}/ruled/members", token=member, json={"person": "x"})
    assert (refused.status, refused.ref) == (403, "forbidden")
    assert sqlite_hub.request("POST", BASE, token=member, json={"name": "mine"}).status == 403
    assert sqlite_hub.request("POST", BASE, json={"name": "mine"}).status == 401


def test_upstreams_come_change_and_go(hub: Hub) -> None:
    hub.as_admin("POST", BASE, json={"name": "acme"})
    first, second = (str(SecretKey.generate("up-1").public) for _ in range(2))
    place = f"{BASE}/acme/upstreams"
    hub.as_admin("POST", place, json={"url": "https://cache.example.org/", "public_keys": [first]})
    hub.as_admin("POST", place, json={"url": "https://cache.example.org", "public_keys": [second]})
    listed = hub.as_admin("GET", place)
    assert [(each["url"], each["public_keys"]) for each in listed] == [
        ("https://cache.example.org", [second])
    ]
    hub.as_admin("DELETE", f"{place}?url=https%3A%2F%2Fcache.example.org")
    assert hub.as_admin("GET", place) == []
    assert hub.request("DELETE", f"{place}?url=x", token=hub.admin).status == 404


@pytest.mark.parametrize(
    ("url", "keys"),
    [
        ("ftp://cache.example.org", ["k"]),
        ("https://user@cache.example.org", ["k"]),
        ("https://cache.example.org?x=1", ["k"]),
        ("cache.example.org", ["k"]),
        ("https://cache.example.org", []),
        ("https://cache.example.org", ["nonsense"]),
    ],
)
def test_an_upstream_that_makes_no_sense_is_refused(sqlite_hub: Hub, url: str, keys: list[str]) -> None:
    sqlite_hub.request("POST", BASE, token=sqlite_hub.admin, json={"name": "picky"})
    good = str(SecretKey.generate("up-1").public)
    asked = {"url": url, "public_keys": [good if key == "k" else key for key in keys]}
    answer = sqlite_hub.request("POST", f"{BASE}/picky/upstreams", token=sqlite_hub.admin, json=asked)
    assert (answer.status, answer.ref) == (400, "bad-request")


@pytest.mark.parametrize("name", ["", "-a", ".a", "a b", "a/b", "a" * 65, "ä", "pinned", "admin", "a\0"])
def test_a_name_that_can_not_be_one_is_refused(sqlite_hub: Hub, name: str) -> None:
    answer = sqlite_hub.request("POST", BASE, token=sqlite_hub.admin, json={"name": name})
    assert (answer.status, answer.ref) == (400, "bad-name")
