"""Attic's own client: `attic login`, `use`, `push` and `watch-store` against a project, named ORG+PROJECT."""

import gzip
import lzma
import os
from collections.abc import Callable

import pytest

from piste.lib.zstd import zstd
from tests.dialects.attic.exchanges import Client
from tests.hub.publishing import Acme, chain
from tests.running.closures import member


@pytest.fixture
def client(acme: Acme) -> Client:
    return Client(acme.hub, f"{acme.organization}+{acme.project}", acme.member, agent=True)


def test_use_finds_all_that_it_writes_into_the_settings_of_nix(client: Client, acme: Acme) -> None:
    config = client.config().json()
    # The client ends with an error where one of the two is missing.
    assert config["substituter_endpoint"].endswith(acme.cache)
    assert config["public_key"]


def test_push_sends_the_closure_and_a_second_push_nothing(client: Client, acme: Acme) -> None:
    closure = chain("attic", 4, os.urandom(500))
    assert client.config().status == 200
    assert len(client.push(closure)) == 4
    assert all(acme.narinfo(path).status == 200 for path in closure)
    assert client.push(closure) == []


def test_watch_store_pushes_path_by_path(client: Client, acme: Acme) -> None:
    # It asks for the whole closure each time, and leaves out what it knows to be there.
    closure = chain("watched", 3, os.urandom(500))
    for end in range(1, 4):
        assert client.push(closure[:end]) == [closure[end - 1].path.hash_part]
    assert acme.narinfo(closure[-1]).status == 200


@pytest.mark.parametrize("compress", [zstd.compress, lzma.compress, gzip.compress])
def test_what_a_client_compresses_is_recognised(
    client: Client, acme: Acme, compress: Callable[[bytes], bytes]
) -> None:
    path = member("app", os.urandom(8), b"again and again " * 10_000)
    assert client.upload(path, nar=compress(path.nar)).status == 200
    assert acme.narinfo(path).status == 200


@pytest.mark.parametrize("cache", ["", "web", "+", "a+b+c", "no+such", "0" * 36 + ":" + "0" * 36, "acme/web"])
def test_a_cache_that_nobody_has_is_missing(client: Client, cache: str) -> None:
    other = Client(client.hub, cache, client.token)
    asked = [other.missing([]), other.upload(member("app", 1))]
    if cache and "/" not in cache:
        asked.append(other.config())
    assert {(each.status, each.json()["error"]) for each in asked} == {(404, "NotFound")}


def test_gotcha_35_an_anonymous_client_reads_the_configuration_of_a_public_project_alone(acme: Acme) -> None:
    acme.add_project("open", "public")
    anybody = Client(acme.hub, f"{acme.organization}+open", None)
    assert anybody.config().json()["is_public"] is True
    assert anybody.missing([]).status == anybody.upload(member("app", 1)).status == 401
    hidden = Client(acme.hub, f"{acme.organization}+web", None)
    assert hidden.config().status == hidden.missing([]).status == 404


@pytest.mark.parametrize(
    "target",
    ["POST /_api/v1/cache-config/{}", "PATCH /_api/v1/cache-config/{}", "DELETE /_api/v1/cache-config/{}"],
)
def test_caches_are_not_made_here(client: Client, acme: Acme, target: str) -> None:
    method, _, path = target.format(client.cache).partition(" ")
    assert acme.ask(method, path, json={}).status == 405
