"""What one organization, or one of its members, must not be able to do to another."""

import os

import pytest

from piste.lib.zstd import zstd
from tests.hub.process import Hub, wait_for
from tests.hub.publishing import Acme, chain
from tests.running.closures import ATTRIBUTE, frame, member


@pytest.fixture
def acme(shared_hub: Hub) -> Acme:
    return Acme(shared_hub)


def test_an_admin_can_not_become_an_owner_by_a_token_in_an_owners_name(acme: Acme) -> None:
    hub, tokens = acme.hub, f"/api/v1/organizations/{acme.organization}/tokens"
    admin = hub.make_member(acme.organization, f"{acme.organization}-admin", "admin")
    owner = hub.make_member(acme.organization, f"{acme.organization}-owner", "owner")
    asked = {"kind": "user", "description": "up"}
    for person in (f"{acme.organization}-owner", "admin"):
        answer = hub.request("POST", tokens, token=admin, json={**asked, "person": person})
        assert (answer.status, answer.ref) == (403, "forbidden")
    # What is no way up stays possible.
    for who, other in ((admin, f"{acme.organization}-publisher"), (owner, "admin"), (owner, None)):
        answer = hub.request("POST", tokens, token=who, json={**asked, "person": other})
        assert answer.status == 201, answer.body


def test_a_security_yank_ends_no_token_of_another_organization_with_the_same_closure(acme: Acme) -> None:
    rival, closure = Acme(acme.hub), chain("common")
    for who in (acme, rival):
        who.publish("1.0.0", closure)
    place = f"{acme.cache}/{closure[0].path.hash_part}.narinfo"
    token = acme.resolve("1").json()["token"]
    theirs = rival.resolve("1").json()["token"]
    yank = {"reason": "a hole", "security": True}
    acme.hub.as_admin("PUT", f"{rival.base}/releases/1.0.0/yank", json=yank)
    elsewhere = place.replace(acme.cache, rival.cache)
    wait_for(lambda: acme.ask("GET", elsewhere, token=theirs).status == 401)
    assert acme.ask("GET", place, token=token).status == 200


def test_an_upload_is_not_told_that_somebody_else_has_brought_the_nar_before(acme: Acme) -> None:
    rival = Acme(acme.hub)
    secret = member("secret", os.urandom(8), os.urandom(2000) + bytes(50_000))
    sizes = {}
    for who, level in ((acme, 1), (rival, 19)):
        filling = who.open()
        filling.declare([secret], {ATTRIBUTE: secret})
        file = zstd.compress(secret.nar, level=level)
        sizes[who.organization] = len(file)
        assert filling.upload(frame(secret.nar_hash, file)).json()["file_bytes"] == len(file)
    assert sizes[acme.organization] != sizes[rival.organization]
