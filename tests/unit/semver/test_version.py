"""Versions: what is one, which is the higher, and the key by which a database sorts them."""

from functools import cmp_to_key
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piste.semver.version import MAX_NUMBER, Version, VersionError

NUMBERS = st.one_of(st.integers(0, 3), st.integers(0, MAX_NUMBER))
IDENTIFIERS = st.one_of(
    st.integers(0, 10**20).map(str),
    st.from_regex(r"[0-9]{0,3}[A-Za-z-][0-9A-Za-z-]{0,3}", fullmatch=True),
)
BUILDS = st.one_of(st.just(""), st.from_regex(r"[0-9A-Za-z-]{1,4}(\.[0-9A-Za-z-]{1,4}){0,2}", fullmatch=True))
PRES = st.one_of(st.just(""), st.lists(IDENTIFIERS, min_size=1, max_size=4).map(".".join))
VERSIONS = st.builds(Version, NUMBERS, NUMBERS, NUMBERS, PRES, BUILDS)


def precedence(left: Version, right: Version) -> int:
    """The rules of SemVer 2.0.0, section 11, one after the other."""
    if left.triple != right.triple:
        return -1 if left.triple < right.triple else 1
    if not left.pre or not right.pre:
        return (not left.pre) - (not right.pre)
    mine, others = left.pre.split("."), right.pre.split(".")
    for one, other in zip(mine, others, strict=False):
        if one == other:
            continue
        if one.isdigit() and other.isdigit():
            return -1 if int(one) < int(other) else 1
        if one.isdigit() != other.isdigit():
            return -1 if one.isdigit() else 1
        return -1 if one < other else 1
    return (len(mine) > len(others)) - (len(mine) < len(others))


@given(VERSIONS)
def test_a_printed_version_reads_back_as_itself(version: Version) -> None:
    assert Version.parse(str(version)) == version


@given(VERSIONS, VERSIONS)
def test_order_and_sort_keys_follow_the_rules_of_precedence(left: Version, right: Version) -> None:
    wanted = precedence(left, right)
    assert (left > right) - (left < right) == wanted
    assert (left >= right, left <= right) == (wanted >= 0, wanted <= 0)
    assert (left.sort_key() > right.sort_key()) - (left.sort_key() < right.sort_key()) == wanted


@given(VERSIONS, VERSIONS)
def test_no_sort_key_is_the_beginning_of_another(left: Version, right: Version) -> None:
    if left.sort_key() != right.sort_key():
        assert not left.sort_key().startswith(right.sort_key())


@given(st.lists(VERSIONS, max_size=20))
def test_a_database_sorts_keys_as_people_sort_versions(versions: list[Version]) -> None:
    by_key = sorted(versions, key=Version.sort_key)
    by_rule = sorted(versions, key=cmp_to_key(precedence))
    assert [v.simplified for v in by_key] == [v.simplified for v in by_rule]


def test_the_example_of_the_specification_is_in_order() -> None:
    texts = (
        "1.0.0-alpha 1.0.0-alpha.1 1.0.0-alpha.beta 1.0.0-beta 1.0.0-beta.2 1.0.0-beta.11 1.0.0-rc.1 1.0.0"
    )
    versions = [Version.parse(text) for text in texts.split()]
    assert all(left < right for left, right in pairwise(versions))


def test_build_metadata_tells_versions_apart_but_not_their_rank() -> None:
    left, right = Version.parse("1.0.0+a"), Version.parse("1.0.0+b")
    assert left != right
    assert not left < right
    assert not left > right
    assert left <= right <= left
    assert left.simplified == right.simplified == Version(1, 0, 0)


@pytest.mark.parametrize(
    "text",
    [
        "0.0.0",
        "1.2.3-0",
        "1.2.3--",
        "1.2.3-0a.00b",
        "1.2.3+00",
        "1.2.3-a-b.1+c-d.02",
        "18446744073709551615.0.0",
        "0.1.7+rev-0123456789abcdef0123456789abcdef01234567",
    ],
)
def test_odd_but_right_versions_are_accepted(text: str) -> None:
    assert str(Version.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "", "1", "1.2", "1.2.3.4", "v1.2.3", " 1.2.3", "1.2.3 ", "1.2.3\n", "01.2.3", "1.02.3", "1.2.03",
        "1.2.3-", "1.2.3+", "1.2.3-01", "1.2.3-a..b", "1.2.3-a.", "1.2.3+a..b", "1.2.3-ä", "1.2.3+a+b",
        "1.2.x", "1.2.*", "-1.2.3", "1.-2.3", "1.2.3-a_b", "18446744073709551616.0.0", "1.2.٣", "１.2.3",
        "1.2.3-" + "a" * 260,
    ],
)  # fmt: skip
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(VersionError):
        Version.parse(text)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("v1.2.3", "leave out the leading 'v'"),
        ("1.2", "three numbers"),
        ("1.02.3", "begin with a zero"),
        ("", "empty"),
        ("99999999999999999999.0.0", "above"),
    ],
)
def test_the_message_says_what_is_wrong(text: str, hint: str) -> None:
    with pytest.raises(VersionError, match=hint):
        Version.parse(text)


def test_a_tag_may_have_a_v() -> None:
    assert Version.from_tag("v1.2.3-rc.1") == Version.from_tag("1.2.3-rc.1") == Version(1, 2, 3, "rc.1")
    with pytest.raises(VersionError):
        Version.from_tag("vv1.2.3")


def test_a_rolling_version_tells_its_commit() -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    rolling = Version.parse(f"0.1.175+rev-{commit}")
    assert rolling.is_rolling
    assert rolling.rolling_revision == commit
    others = (f"1.1.175+rev-{commit}", "0.1.175", "0.1.175+rev-abc", f"0.1.1-a+rev-{commit}")
    assert not any(Version.parse(text).is_rolling for text in others)


def test_a_version_is_not_compared_with_something_else() -> None:
    with pytest.raises(TypeError):
        assert Version(1, 2, 3) < "1.2.4"
