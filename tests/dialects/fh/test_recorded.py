"""What these tests send is to the byte what was recorded of the libraries that `fh` is made with: reqwest
0.11, url 2.5, urlencoding 2."""

import http.client
from collections.abc import Callable

import pytest

from tests.dialects.fh.client import Fh, Heard

JSON = "application/json"
SIGNS = "^1|[2]{3}~!$&'()*+;=:@"

Call = Callable[[Fh], Heard]


@pytest.mark.parametrize(
    ("target", "call"),
    [
        ("/flakes", lambda fh: fh.list_flakes()),
        ("/orgs/acme/projects", lambda fh: fh.list_flakes("acme")),
        ("/label/nix", lambda fh: fh.list_label("Nix")),
        ("/orgs?include_public=true", lambda fh: fh.list_orgs()),
        ("/f/acme/web/releases", lambda fh: fh.list_releases("acme/web")),
        ("/version/resolve/acme/web/%252A", lambda fh: fh.list_versions("acme/web", "*")),
        ("/version/resolve/acme/web/0.1.%252A", lambda fh: fh.list_versions("acme/web", "0.1.*")),
        ("/version/resolve/acme/web/~1.2", lambda fh: fh.list_versions("acme/web", "~1.2")),
        (
            "/version/resolve/acme/web/%253D0.1.5%252Brev-abc",
            lambda fh: fh.list_versions("acme/web", "=0.1.5+rev-abc"),
        ),
        (
            "/version/resolve/acme/web/%253E%253D0.1%252C%2520%253C0.3",
            lambda fh: fh.list_versions("acme/web", ">=0.1, <0.3"),
        ),
        ("/version/acme/web/=0.1.7+rev-abc", lambda fh: fh.metadata("acme/web", "=0.1.7+rev-abc")),
        ("/version/acme/web/%3E=1,%20%3C2", lambda fh: fh.metadata("acme/web", ">=1, <2")),
        ("/f/acme/web", lambda fh: fh.metadata("acme/web")),
        (
            "/f/acme/web/0.1.*/output/packages.x86_64-linux.default",
            lambda fh: fh.resolve("acme/web/0.1.*#packages.x86_64-linux.default"),
        ),
        (
            "/f/acme/web/%3E=0.1/output/nixosConfigurations.web?include_token=true",
            lambda fh: fh.resolve("acme/web/>=0.1#nixosConfigurations.web", include_token=True),
        ),
        (
            "/f/acme/b%20c/^1|[2]%7B3%7D~!$&'()*+;=:@/output/"
            "x.%22a%2Fb%22.%C3%A9%25%3F%23%3C%3E%5C%60?include_token=true",
            lambda fh: fh.resolve(f'acme/b c/{SIGNS}#x."a/b".é%?#<>\\`', include_token=True),
        ),
    ],
)
def test_a_request_is_what_was_recorded(target: str, call: Call) -> None:
    assert sent(call) == request(target, JSON, "TOKEN")


def test_a_status_takes_anything_and_a_search_gives_no_token() -> None:
    assert sent(lambda fh: fh.status()) == request("/cli/status", "*/*", "TOKEN")
    found = sent(lambda fh: fh.search("web app+é"))
    assert found == request("/search?q=web+app%2B%C3%A9", JSON, None)


def sent(call: Call) -> list[str]:
    written: list[bytes] = []

    def keep(host: str, request: bytes) -> Heard:
        written.append(request)
        return Heard(200, http.client.HTTPMessage(), b"")

    call(Fh("http://127.0.0.1:18799", "TOKEN", keep))
    return written[0].decode().split("\r\n")


def request(target: str, accept: str, token: str | None) -> list[str]:
    credential = [f"authorization: Bearer {token}"] if token is not None else []
    head = [f"GET {target} HTTP/1.1", f"accept: {accept}", "user-agent: fh/0.1.28"]
    return [*head, *credential, "host: 127.0.0.1:18799", "", ""]
