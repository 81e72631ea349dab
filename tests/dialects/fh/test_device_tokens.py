"""Device tokens as a branch of `fh` that was never released asks for them."""

import json

from tests.dialects.fh.client import Fh, TokenStatus
from tests.dialects.fh.conftest import World
from tests.hub.process import Answer


def ask(world: World, method: str, place: str, *, token: str | None = None, json: object = None) -> Answer:
    return world.hub.request(method, f"/orgs/{world.org}/{place}", token=token or world.hub.admin, json=json)


def listed(world: World) -> list[str]:
    rows = json.loads(ask(world, "GET", "device_tokens").body)
    return [row["uuid_v7"] for row in rows]


def test_an_admin_makes_lists_and_ends_device_tokens(world: World) -> None:
    before = listed(world)
    made = ask(world, "POST", "device_token", json={"description": "a laptop"})
    assert (made.status, made.headers["cache-control"]) == (200, "no-store")
    token, identifier = made.json()["token"], made.json()["actor_id"]
    assert Fh(world.hub.url, token).status().read(TokenStatus).gh_name == world.org
    assert listed(world) == [identifier, *before]
    assert ask(world, "POST", f"device_token/{identifier}/revoke").status == 200
    assert Fh(world.hub.url, token).status().status == 401
    assert listed(world) == before


def test_nobody_else_does_and_no_other_token_ends_so(world: World) -> None:
    for token, status in ((world.acme.member, 403), (world.rival.member, 404)):
        answer = ask(world, "POST", "device_token", token=token, json={"description": "mine"})
        assert (answer.status, type(answer.json())) == (status, str)
    world.hub.make_token(world.org, kind="user", person=f"{world.org}-publisher")
    tokens = world.hub.as_admin("GET", f"/api/v1/organizations/{world.org}/tokens")
    other = next(each["id"] for each in tokens if each["kind"] == "user")
    assert ask(world, "POST", f"device_token/{other}/revoke").status == 404
    assert ask(world, "POST", "device_token", json={"description": " "}).status == 400
