"""Texts and numbers that no honest client sends are refused by word; none is a fault of the hub."""

import pytest

from tests.hub.process import Hub
from tests.hub.publishing import Acme, chain
from tests.running.closures import member


@pytest.fixture(scope="module")
def acme(shared_hub: Hub) -> Acme:
    found = Acme(shared_hub)
    found.publish("1.0.0", chain("odd"))
    return found


@pytest.mark.parametrize("limit", ["0", "1001", "0000000019999", "000000001" + "9" * 30, "1" + "0" * 5000])
def test_a_limit_is_a_small_number(acme: Acme, limit: str) -> None:
    assert acme.ask("GET", f"{acme.base}/releases?limit={limit}").status == 400


@pytest.mark.parametrize("description", ["a\0b", "a\x1b]0;title\x07b", "a\nb"])
def test_a_description_holds_nothing_that_acts_on_a_terminal(acme: Acme, description: str) -> None:
    place = f"/api/v1/organizations/{acme.organization}/tokens"
    answer = acme.ask("POST", place, json={"kind": "user", "description": description})
    assert (answer.status, answer.ref) == (400, "bad-request")


def test_a_nul_in_a_query_or_a_name_is_no_fault_of_the_hub(acme: Acme) -> None:
    place = f"/api/v1/organizations/{acme.organization}"
    asked = {"kind": "user", "description": "x", "person": "a\0b"}
    answers = [
        acme.hub.request("DELETE", f"{place}/upstreams?url=%00", token=acme.hub.admin),
        acme.hub.request("POST", f"{place}/tokens", token=acme.hub.admin, json=asked),
    ]
    assert all(answer.status in (400, 404) for answer in answers), answers


@pytest.mark.parametrize("line", ["CA: a\0b", "Sig: a\x1b[1m:b", "Other: \0"])
def test_a_narinfo_with_control_characters_is_refused(acme: Acme, line: str) -> None:
    path = member("pushed", line)
    name = f"{path.nar_hash.base32}.nar"
    assert acme.ask("PUT", f"{acme.cache}/nar/{name}", body=path.nar).status == 201
    lines = [f"StorePath: {path.path}", f"URL: nar/{name}", "Compression: none"]
    lines += [f"NarHash: {path.nar_hash.nix32()}", f"NarSize: {len(path.nar)}", "References: ", line]
    body = "".join(f"{each}\n" for each in lines).encode()
    answer = acme.ask("PUT", f"{acme.cache}/{path.path.hash_part}.narinfo", body=body)
    assert (answer.status, answer.ref) == (422, "bad-path-info")


def test_the_source_of_a_range_is_kept_by_no_cache(acme: Acme) -> None:
    ranged = acme.ask("GET", f"{acme.base}/releases/*/source")
    assert ranged.headers["Cache-Control"] == "no-cache"
    pinned = acme.ask("GET", f"{acme.base}/releases/*").json()["source_url"].removeprefix(acme.hub.url)
    assert "immutable" in acme.ask("GET", pinned).headers["Cache-Control"]
