"""Where a token may go."""

import pytest

from piste.client.address import parse_address, require_safe, segments
from piste.lib.errors import UsageError


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://hub.example.org", "https://hub.example.org"),
        ("https://hub.example.org/", "https://hub.example.org"),
        ("https://hub.example.org:8443/piste/", "https://hub.example.org:8443/piste"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("https://hub.example.org:443", "https://hub.example.org"),
    ],
)
def test_an_address_has_one_spelling(text: str, url: str) -> None:
    assert parse_address(text).url == url


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hub.example.org",
        "ftp://hub.example.org",
        "https://",
        "https://h:port",
        "https://h/?a=b",
        "https://h/#x",
    ],
)
def test_what_is_no_address_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_address(text)
    assert caught.value.ref == "bad-hub"


def test_an_address_with_a_password_is_refused_without_showing_it() -> None:
    with pytest.raises(UsageError) as caught:
        parse_address("https://user:hunter2@hub.example.org")
    assert "hunter2" not in str(caught.value) + (caught.value.hint or "")


@pytest.mark.parametrize(
    "text",
    ["https://hub.example.org", "http://127.0.0.1:1", "http://127.9.9.9", "http://localhost", "http://[::1]"],
)
def test_a_token_travels_over_tls_or_to_this_machine(text: str) -> None:
    require_safe(parse_address(text))


@pytest.mark.parametrize(
    "text",
    [
        "http://hub.example.org",
        "http://10.0.0.1",
        "http://localhost.example.org",
        "http://127.0.0.1.example.org",
    ],
)
def test_a_token_never_travels_in_the_clear_to_another_machine(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        require_safe(parse_address(text))
    assert caught.value.ref == "insecure-hub"


def test_a_segment_stays_one_segment_whatever_is_in_it() -> None:
    assert segments("a/b", "*", ">=1, <2", 'x."y.z"') == "/a%2Fb/%2A/%3E%3D1%2C%20%3C2/x.%22y.z%22"
