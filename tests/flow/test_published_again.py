"""A version that is published again by a machine that has built more of it."""

import pytest

from piste.lib.errors import PisteError
from piste.wire.publication import DeclaredOutput
from tests.hub.process import Hub
from tests.running.audit import Reader, check_release
from tests.running.closures import Publishing, make_source, member
from tests.running.tenants import Tenant, make_tenant

X86, ARM = "packages.x86_64-linux.default", "packages.aarch64-linux.default"
BUILT = member("built", "x86", b"for x86")
BELOW = member("below", "arm", b"for arm")
LATER = member("later", "arm", b"for arm", [BELOW.path])


@pytest.fixture
def tenant(hub: Hub, request: pytest.FixtureRequest) -> Tenant:
    return make_tenant(hub, request.node.name.replace("_", "-")[:40], "web")


def _open(tenant: Tenant, *required: str) -> Publishing:
    """A publication of the same two outputs, of which only some have to be complete."""
    outputs = [
        DeclaredOutput(attribute, str(each.path), required=attribute in required)
        for attribute, each in ((X86, BUILT), (ARM, LATER))
    ]
    publishing = Publishing(tenant.client(), tenant.organization, tenant.project, "1.0.0")
    publishing.declare([BUILT, *([BELOW, LATER] if ARM in required else [])], outputs)
    publishing.source(make_source("the same"))
    return publishing


def _publish_first(tenant: Tenant) -> None:
    first = _open(tenant, X86)
    first.upload(BUILT.frame)
    assert list(first.finish().outputs) == [X86]


def test_what_was_only_recorded_becomes_available_when_it_is_brought(tenant: Tenant) -> None:
    _publish_first(tenant)
    second = _open(tenant, X86, ARM)
    second.upload(BELOW.frame + LATER.frame)
    done = second.finish()
    assert (done.created, sorted(done.outputs)) == (False, sorted([X86, ARM]))
    with Reader(tenant.hub.url, tenant.token) as reader:
        check_release(reader, tenant, tenant.key, "1.0.0")


def test_what_was_asked_for_and_is_not_complete_is_no_success(tenant: Tenant) -> None:
    _publish_first(tenant)
    second = _open(tenant, X86, ARM)
    second.upload(LATER.frame)
    with pytest.raises(PisteError) as caught:
        second.finish()
    assert caught.value.ref == "output-incomplete"
    assert BELOW.path.base_name in str(caught.value.context)
    second.upload(BELOW.frame)
    assert sorted(second.finish().outputs) == sorted([X86, ARM])
