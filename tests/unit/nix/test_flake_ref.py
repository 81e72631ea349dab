"""References to releases and attribute paths, in all their spellings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piste.nix.flake_ref import (
    FlakeRefError,
    Reference,
    format_attribute_path,
    parse_attribute_path,
    parse_project,
    parse_reference,
    valid_name,
)

HUB = "https://hub.example"
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)
requirements = st.sampled_from(["*", "0.1", "=0.1.5+rev-abc", "~1.2", ">=1, <3", "1.x", "^1"])
attributes = st.lists(
    st.one_of(
        st.sampled_from(
            [
                "packages",
                "x86_64-linux",
                "a.b",
                "user@host",
                "",
                '"',
                "\\",
                "a b",
                "c++",
                "1st",
                "#",
                "ä",
                "^",
            ]
        ),
        st.text(
            st.characters(min_codepoint=32, exclude_characters="\x7f", exclude_categories=["Cs"]), max_size=8
        ),
    ),
    min_size=1,
    max_size=5,
).map(tuple)
references = st.builds(Reference, names, names, requirements, st.just(()) | attributes)


@given(references)
def test_a_printed_reference_reads_back_as_itself(reference: Reference) -> None:
    assert parse_reference(str(reference)) == reference


@given(attributes)
def test_a_printed_attribute_path_reads_back_as_itself(path: tuple[str, ...]) -> None:
    assert parse_attribute_path(format_attribute_path(path)) == path


def escaped(text: str) -> str:
    """As a careful client writes a piece of a URL: everything escaped but letters and digits."""
    return "".join(chr(b) if chr(b).isalnum() and b < 128 else f"%{b:02X}" for b in text.encode())


@given(references, st.booleans())
def test_the_url_of_a_reference_means_the_same(reference: Reference, archive: bool) -> None:
    fragment = "#" + escaped(reference.attribute_path) if reference.attribute_path else ""
    url = f"{HUB}/f/{reference.organization}/{reference.project}/{escaped(reference.requirement)}"
    assert parse_reference(url + (".tar.gz" if archive else "") + fragment, HUB) == reference


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("acme/web", ("acme", "web", "*", ())),
        ("acme/web#x", ("acme", "web", "*", ("x",))),
        ("acme/web/0.1#nixosConfigurations.web", ("acme", "web", "0.1", ("nixosConfigurations", "web"))),
        ('acme/web/*#nixosConfigurations."a.b".x', ("acme", "web", "*", ("nixosConfigurations", "a.b", "x"))),
        ("acme/web/>=0.1, <0.3#x", ("acme", "web", ">=0.1, <0.3", ("x",))),
        ("acme/web/=0.1.5+rev-abc#x", ("acme", "web", "=0.1.5+rev-abc", ("x",))),
        (" acme/web/0.1 ", ("acme", "web", "0.1", ())),
        (f"{HUB}/f/acme/web", ("acme", "web", "*", ())),
        (f"{HUB}/f/acme/web/0.1", ("acme", "web", "0.1", ())),
        (f"{HUB}/f/acme/web/0.1.tar.gz#x.y", ("acme", "web", "0.1", ("x", "y"))),
        (f"{HUB}/f/acme/web/%2A.tar.gz", ("acme", "web", "*", ())),
        (f"{HUB}/f/acme/web/*.tar.gz", ("acme", "web", "*", ())),
        (f"{HUB}/f/acme/web/%3D0.1.5%2Brev-a", ("acme", "web", "=0.1.5+rev-a", ())),
        (f"{HUB}/f/acme/web/=0.1.5+rev-a", ("acme", "web", "=0.1.5+rev-a", ())),
        (f'{HUB}/f/acme/web/1#a.%22b.c%22."d"', ("acme", "web", "1", ("a", "b.c", "d"))),
        ("HTTPS://Hub.Example/f/acme/web/1", ("acme", "web", "1", ())),
    ],
)
def test_the_forms_of_a_reference(text: str, parts: tuple[str, str, str, tuple[str, ...]]) -> None:
    assert parse_reference(text, HUB) == Reference(*parts)
    assert parse_reference(text, HUB + "/") == Reference(*parts)
    assert parse_reference(text) == Reference(*parts)


@pytest.mark.parametrize(
    "text",
    [
        "", "acme", "/", "acme/", "/web", "acme//web", "acme/web/", "acme/web/#x", "acme/web#",
        "acme/web/1/2", "acme/web/1\n2", "../web/1", "acme/../1", "./web", "acme/web\0/1", "äcme/web/1",
        "-acme/web", ".acme/web", "a" * 65 + "/web", "acme/web/" + "1" * 5000,
        "acme/web/1#a..b", "acme/web/1#.", "acme/web/1#a.", "acme/web/1#a b", 'acme/web/1#"a',
        'acme/web/1#"a"b', 'acme/web/1#a"b"', "acme/web/1#a^dev", "acme/web/1#a#b",
        "acme/web#" + ".".join("a" * 33),
        f"{HUB}/f/acme%2Fweb/1", f"{HUB}/f/acme/web/1%2F2", f"{HUB}/f/acme/%2E%2E/1", f"{HUB}/f/acme/web/%FF",
        f"{HUB}/acme/web/1", f"{HUB}/f/", f"{HUB}/f/acme", f"{HUB}/f/acme/web/1?x=y", f"{HUB}/f/acme/web/",
        f"{HUB}/f/acme/web/.tar.gz", f"{HUB}/f/pinned/acme/web/1/x/source.tar.gz",
    ],
)  # fmt: skip
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(FlakeRefError):
        parse_reference(text, HUB)


@pytest.mark.parametrize(
    "url",
    [
        "https://other.example/f/acme/web/1",
        "https://hub.example.evil/f/acme/web/1",
        "http://hub.example/f/acme/web/1",
        "https://hub.example:8443/f/acme/web/1",
        "https://user@hub.example/f/acme/web/1",
        "https://hub.example/x/f/acme/web/1",
    ],
)
def test_a_url_of_another_hub_is_refused(url: str) -> None:
    with pytest.raises(FlakeRefError, match="not a URL of this hub"):
        parse_reference(url, HUB)


def test_a_hub_may_live_below_a_path() -> None:
    wanted = Reference("acme", "web", "1")
    assert parse_reference("https://example.org/hub/f/acme/web/1", "https://example.org/hub/") == wanted
    with pytest.raises(FlakeRefError):
        parse_reference("https://example.org/HUB/f/acme/web/1", "https://example.org/hub/")


def test_each_attribute_path_has_one_spelling() -> None:
    for text in ("a.b", '"a".b', 'a."b"', '"a"."b"'):
        assert format_attribute_path(parse_attribute_path(text)) == "a.b"
    assert format_attribute_path(("packages", "x86_64-linux", "gtk+", "1st", "it's")) == (
        "packages.x86_64-linux.gtk+.1st.it's"
    )
    assert format_attribute_path(("a.b", "", 'q"\\', "user@host")) == r'"a.b"."".' + r'"q\"\\"."user@host"'
    assert parse_attribute_path("homeConfigurations.user@host") == ("homeConfigurations", "user@host")
    with pytest.raises(FlakeRefError, match="control"):
        format_attribute_path(("a\nb",))


def test_a_reference_shows_its_attribute_path() -> None:
    assert Reference("acme", "web").attribute_path is None
    assert str(Reference("acme", "web")) == "acme/web/*"
    assert str(Reference("acme", "web", "0.1", ("a", "b.c"))) == 'acme/web/0.1#a."b.c"'


@given(st.text(max_size=20))
def test_a_valid_name_stays_in_its_place(text: str) -> None:
    if valid_name(text):
        assert not set(text) & set("/\\%?#:\n ")
        assert not text.startswith((".", "-"))
        assert text.isascii()


def test_projects_are_two_names() -> None:
    assert parse_project("acme/web") == ("acme", "web")
    for text in ("acme", "acme/web/1", "acme/", "/web", "acme/we b", ""):
        with pytest.raises(FlakeRefError):
            parse_project(text)
