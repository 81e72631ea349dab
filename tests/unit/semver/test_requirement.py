"""Requirements: Cargo's grammar in full, checked row by row and against a second, naive formulation."""

import itertools

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from piste.semver.pick import best
from piste.semver.requirement import (
    MAX_COMPARATORS,
    Requirement,
    RequirementError,
    exact_version,
    strip_url_form,
)
from piste.semver.version import MAX_NUMBER, Version
from tests.unit.semver import naive

SMALL = st.integers(0, 3)
PRE = st.sampled_from(["", "", "-0", "-1", "-2.a", "-alpha", "-alpha.1", "-beta", "-rc.10", "-rc.9"])
BUILD = st.sampled_from(["", "", "", "+b", "+rev-abc.01"])
SPACES = st.sampled_from(["", "", "", " ", "  "])
OPERATORS = st.sampled_from(["", "", "=", ">", ">=", "<", "<=", "~", "^"])
WILD = st.sampled_from(["*", "x", "X"])
VERSIONS = st.builds("{}.{}.{}{}{}".format, SMALL, SMALL, SMALL, PRE, BUILD)
NUMBERS = st.one_of(
    st.builds(str, SMALL),
    st.builds("{}.{}".format, SMALL, st.one_of(SMALL, WILD)),
    st.builds("{}.{}.{}".format, SMALL, WILD, WILD),
    st.builds("{}.{}.{}".format, SMALL, SMALL, WILD),
    st.builds("{}.{}.{}{}{}".format, SMALL, SMALL, SMALL, PRE, BUILD),
)
COMPARATORS = st.builds("{}{}{}{}".format, OPERATORS, SPACES, NUMBERS, SPACES)
REQUIREMENTS = st.one_of(
    st.builds("{}{}{}".format, SPACES, WILD, SPACES),
    st.builds(lambda s, cs: s + ", ".join(cs), SPACES, st.lists(COMPARATORS, min_size=1, max_size=4)),
)


def matches(requirement: str, version: str) -> bool:
    return Requirement.parse(requirement).matches(Version.parse(version))


# Each row: the requirement, what it takes, what it does not. First the table that describes the grammar.
ROWS = [
    ("1.2.3", "1.2.3 1.2.4 1.99.0 1.2.3+b", "1.2.2 2.0.0 0.2.3 1.2.3-a 1.3.0-a 2.0.0-a"),
    ("0.2.3", "0.2.3 0.2.99", "0.2.2 0.3.0 1.2.3"),
    ("0.0.3", "0.0.3 0.0.3+x", "0.0.2 0.0.4 0.1.3"),
    ("0.1", "0.1.0 0.1.99", "0.0.9 0.2.0 1.1.0 0.1.0-a"),
    ("0", "0.0.0 0.1.2 0.99.99", "1.0.0"),
    ("~1.2", "1.2.0 1.2.99", "1.1.9 1.3.0 2.2.0 1.2.0-a"),
    ("=1.0", "1.0.0 1.0.7", "1.1.0 0.9.9 2.0.0 1.0.0-a"),
    ("=1.2.3", "1.2.3 1.2.3+any 1.2.3+rev-a.b", "1.2.2 1.2.4 1.2.3-a"),
    ("*", "0.0.0 1.2.3 99.0.0 1.0.0+b", "1.0.0-a 0.0.0-0"),
    ("x", "0.0.0 1.2.3", "1.0.0-a"),
    ("X", "0.0.0 1.2.3", "1.0.0-a"),
    # What numbers left out mean under each operator.
    (">1.2", "1.3.0 2.0.0", "1.2.0 1.2.9 1.1.9"),
    (">1", "2.0.0 3.1.0", "1.0.0 1.9.9 0.9.9"),
    (">=1.2", "1.2.0 1.2.9 2.0.0", "1.1.9"),
    (">=1", "1.0.0 2.0.0", "0.9.9"),
    ("<1.2", "1.1.9 0.0.0", "1.2.0 1.2.0-a"),
    ("<1", "0.9.9", "1.0.0 1.0.0-a"),
    ("<=1.2", "1.2.9 1.2.0 0.1.0", "1.3.0 2.0.0"),
    ("<=1", "1.9.9 0.1.0", "2.0.0"),
    ("=1", "1.0.0 1.9.9", "0.9.9 2.0.0"),
    ("~1", "1.0.0 1.9.9", "0.9.9 2.0.0"),
    ("~1.2.3", "1.2.3 1.2.9", "1.2.2 1.3.0"),
    ("~0", "0.0.0 0.9.9", "1.0.0"),
    ("^1", "1.0.0 1.9.9", "0.9.9 2.0.0"),
    ("^1.2", "1.2.0 1.9.0", "1.1.9 2.0.0"),
    ("^0.0", "0.0.0 0.0.9", "0.1.0"),
    ("^0.0.0", "0.0.0", "0.0.1"),
    ("1.0.0", "1.0.0 1.9.9", "0.9.9 2.0.0"),
    # Wildcards
    ("1.*", "1.0.0 1.9.9", "0.9.9 2.0.0 1.0.0-a"),
    ("1.x", "1.0.0 1.9.9", "2.0.0"),
    ("1.X", "1.0.0 1.9.9", "2.0.0"),
    ("1.2.*", "1.2.0 1.2.9", "1.3.0 1.1.0 1.2.0-a"),
    ("1.*.*", "1.0.0 1.9.9", "2.0.0"),
    ("0.0.x", "0.0.0 0.0.9", "0.1.0"),
    ("=1.*", "1.0.0 1.9.9", "2.0.0"),
    (">1.*", "2.0.0", "1.9.9"),
    (">=1.2.*", "1.2.0 2.0.0", "1.1.9"),
    ("^0.1.*", "0.1.0 0.1.9", "0.2.0"),
    ("~1.*", "1.0.0 1.9.9", "2.0.0"),
    ("<=1.2.*", "1.2.9", "1.3.0"),
    # Lists: a comma is an "and"
    (">=1.2, <2", "1.2.0 1.9.9", "1.1.9 2.0.0"),
    (">= 1.2 ,<2", "1.2.0 1.9.9", "1.1.9 2.0.0"),
    (">1.2.3, <=1.2.5", "1.2.4 1.2.5", "1.2.3 1.2.6"),
    ("0.3.0, 0.4.0", "", "0.3.0 0.3.5 0.4.0"),
    ("1.2, 1.4", "1.4.0 1.9.0", "1.3.9"),
    ("<=0.2.0, >=0.5.0", "", "0.1.0 0.3.0 0.6.0"),
    # Pre-releases: only where a comparator names one of the same three numbers
    ("1.2.3-beta.2", "1.2.3-beta.2 1.2.3-beta.10 1.2.3 1.9.0", "1.2.3-beta.1 1.2.4-beta.2 2.0.0-a 2.0.0"),
    ("=1.2.3-a", "1.2.3-a 1.2.3-a+b", "1.2.3 1.2.3-a.1 1.2.3-b"),
    (">=1.2.3-a", "1.2.3-a 1.2.3-b 1.2.3 2.0.0", "1.2.4-a 2.0.0-b 1.2.2"),
    (">1.2.3-a", "1.2.3-b 1.2.3", "1.2.3-a 1.3.0-b"),
    ("<1.2.3-b", "1.2.3-a 1.2.2", "1.2.3-b 1.2.3 1.2.2-a"),
    ("<2.0.0-alpha", "1.9.9 2.0.0-0", "2.0.0-alpha 2.0.0 1.9.9-a"),
    ("<=1.2.3-b", "1.2.3-b 1.2.3-a 1.2.2", "1.2.3 1.2.3-c"),
    ("~1.2.3-beta", "1.2.3-beta 1.2.3 1.2.9", "1.2.3-alpha 1.2.4-beta 1.3.0"),
    ("0.0.3-beta", "0.0.3-beta 0.0.3", "0.0.3-alpha 0.0.4"),
    (">1.0.0-alpha, <1.0.0", "1.0.0-beta", "1.0.0 1.0.0-alpha"),
    (">1.0.0-alpha, <1.0", "", "1.0.0-beta"),
    (">1.0.0-alpha, <1", "", "1.0.0-beta"),
    ("<=1.2, >=1.2.3-alpha", "1.2.3 1.2.9", "1.2.3-alpha 1.3.0"),
    ("^1.2, >=1.2.3-alpha", "1.2.3-alpha 1.2.3 1.9.0", "1.2.2 1.2.4-alpha"),
    ("~1.2, >=1.2.3-alpha", "1.2.3 1.2.9", "1.2.3-alpha"),
    ("1.2.*, >=1.2.3-alpha", "1.2.3", "1.2.3-alpha"),
    ("=1.2.3, >=1.2.3-a", "1.2.3", "1.2.3-a 1.2.3-b"),
    # Build metadata is read and has no say
    ("=0.1.5+rev-abc", "0.1.5 0.1.5+rev-abc 0.1.5+other", "0.1.6"),
    ("1.2.3+b", "1.2.3 1.3.0+c", "1.2.2"),
    (">=1.2.3-a+b", "1.2.3-a 1.2.3", "1.2.4-a"),
    # Spaces, at the ends and after an operator
    ("  1.2.3  ", "1.2.3", "2.0.0"),
    (" * ", "1.2.3", "1.2.3-a"),
    ("=  1.2.3", "1.2.3", "1.2.4"),
    # The ends of the numbers
    (f">{MAX_NUMBER}", "", f"{MAX_NUMBER}.0.0"),
    (f">=0.{MAX_NUMBER}", f"0.{MAX_NUMBER}.0 1.0.0", "0.1.0"),
    (f"~{MAX_NUMBER}.{MAX_NUMBER}.1", f"{MAX_NUMBER}.{MAX_NUMBER}.9", f"{MAX_NUMBER}.{MAX_NUMBER}.0"),
    (f"^0.0.{MAX_NUMBER}", f"0.0.{MAX_NUMBER}", "0.1.0"),
    (f">{MAX_NUMBER}.{MAX_NUMBER}.{MAX_NUMBER}", "", f"{MAX_NUMBER}.{MAX_NUMBER}.{MAX_NUMBER}"),
]  # fmt: skip


@pytest.mark.parametrize(("requirement", "taken", "refused"), ROWS)
def test_the_rows_and_edges_of_the_grammar_hold(requirement: str, taken: str, refused: str) -> None:
    assert [v for v in taken.split() if not matches(requirement, v)] == []
    assert [v for v in refused.split() if matches(requirement, v)] == []


REFUSED = [
    ("", "empty"),
    ("   ", "empty"),
    ("*.1", "stand alone"),
    ("*.*", "stand alone"),
    ("*, 1", "stand alone"),
    ("1, *", "wildcard"),
    ("1, *, 2", "wildcard"),
    ("=*", "wildcard"),
    (">=*", "wildcard"),
    ("^*", "wildcard"),
    (">=1 <2", "comma"),
    ("1.2 1.3", "comma"),
    ("=1.2.3 || =2.3.4", "alternatives"),
    ("1.2.3 - 2.3.4", "range"),
    ("v1.2.3", "leave out the v"),
    ("=v1.2.3", "leave out the v"),
    ("V1", "leave out the v"),
    (">=1, <v2", "leave out the v"),
    ("1,", "missing"),
    (",1", "missing"),
    ("1, ,2", "missing"),
    (">", "missing"),
    (">=", "missing"),
    (">= >=1", "missing"),
    (">==1", "missing"),
    ("==1.2.3", "missing"),
    ("=>1", "missing"),
    ("> =1", "missing"),
    ("!=1", "missing"),
    ("a.0.0", "missing"),
    ("1.", "missing"),
    ("1.2.", "missing"),
    (".1", "missing"),
    ("1..2", "missing"),
    ("-1", "missing"),
    ("1. 2", "missing"),
    ("1.*.1", "wildcard"),
    (">=1.*.1", "wildcard"),
    ("1.*.", "wildcard"),
    ("1.*-a", "comma"),
    ("1.2-a", "comma"),
    ("1.2+b", "comma"),
    ("1-a", "comma"),
    ("1.2.3.4", "comma"),
    ("1.2.*-a", "comma"),
    ("01", "zero"),
    ("1.02", "zero"),
    ("1.2.03", "zero"),
    ("1.2.3-01", "zero"),
    ("1.2.3-", "empty part"),
    ("1.2.3-a..b", "empty part"),
    ("1.2.3-a.", "empty part"),
    ("1.2.3+", "empty part"),
    ("1.2.3-+b", "empty part"),
    ("1.2.3+4.", "empty part"),
    ("1.2.3+a+b", "comma"),
    ("1.2.3-ä", "empty part"),
    ("1.2.3\t", "comma"),
    ("\t1.2.3", "missing"),
    ("1.2.3\n", "comma"),
    ("\0", "missing"),
    ("latest", "missing"),
    (f"{MAX_NUMBER + 1}", "above"),
    ("0." + "9" * 3000, "above"),
    (", ".join(["1"] * (MAX_COMPARATORS + 1)), "at most 32"),
    ("1" + " " * 5000, "too long"),
]


@pytest.mark.parametrize(("text", "reason"), REFUSED)
def test_what_cargo_refuses_is_refused_in_words(text: str, reason: str) -> None:
    with pytest.raises(RequirementError, match=reason):
        Requirement.parse(text)


def test_32_conditions_are_the_most() -> None:
    assert len(Requirement.parse(", ".join(["1"] * MAX_COMPARATORS)).comparators) == MAX_COMPARATORS


@settings(max_examples=1500)
@given(REQUIREMENTS, st.lists(VERSIONS, min_size=1, max_size=15))
def test_the_naive_formulation_gives_the_same_answers(requirement: str, versions: list[str]) -> None:
    parsed = Requirement.parse(requirement)
    for version in versions:
        assert parsed.matches(Version.parse(version)) == naive.matches(requirement, version), version


def test_the_naive_formulation_agrees_on_every_single_comparator_of_a_grid() -> None:
    pre = ["", "-0", "-a", "-b.1"]
    triples = [".".join(map(str, t)) for t in itertools.product(range(3), repeat=3)]
    numbers = [
        *"012",
        *(f"{a}.{b}" for a in range(3) for b in (0, 1, 2, "*")),
        *(t + p for t in triples for p in pre),
    ]
    versions = [t + p for t in triples for p in pre]
    parsed = [(text, Version.parse(text)) for text in versions]
    for operator, number in itertools.product(["", "=", ">", ">=", "<", "<=", "~", "^"], numbers):
        requirement = Requirement.parse(operator + number)
        for text, version in parsed:
            wanted = naive.matches(operator + number, text)
            assert requirement.matches(version) == wanted, (operator + number, text)


@settings(max_examples=2000)
@given(
    st.one_of(
        st.text("0123.*xX=><~^, -+av|", max_size=14),
        REQUIREMENTS,
        st.builds(
            lambda r, i, c: r[: i % (len(r) + 1)] + c + r[i % (len(r) + 1) :],
            REQUIREMENTS,
            SMALL,
            st.text(max_size=2),
        ),
    )
)
@example("1.2.3-0")
@example("1.2.3 , 1")
def test_exactly_the_texts_of_the_grammar_are_read(text: str) -> None:
    try:
        Requirement.parse(text)
        read = True
    except RequirementError:
        read = False
    assert read == naive.is_requirement(text)


@given(REQUIREMENTS)
def test_a_printed_requirement_reads_back_as_itself(text: str) -> None:
    requirement = Requirement.parse(text)
    assert Requirement.parse(str(requirement)) == requirement


def test_requirements_print_with_their_operators() -> None:
    rows = {
        "1.2": "^1.2",
        "1.x": "1.*",
        "1.*.*": "1.*",
        " X ": "*",
        ">=1,<2": ">=1, <2",
        "= 1.2.3-a+b": "=1.2.3-a+b",
    }
    assert {text: str(Requirement.parse(text)) for text in rows} == rows


def _within(requirement: Requirement, version: Version) -> bool:
    key = version.sort_key()
    return any((low or b"") <= key and (high is None or key < high) for low, high in requirement.intervals())


@settings(max_examples=1500)
@given(REQUIREMENTS, st.lists(VERSIONS, min_size=1, max_size=15))
def test_what_matches_lies_in_the_intervals(text: str, versions: list[str]) -> None:
    requirement = Requirement.parse(text)
    for version in map(Version.parse, versions):
        matched = requirement.matches(version)
        if version.is_prerelease:
            assert not matched or _within(requirement, version)
            assert not matched or version.triple in requirement.prerelease_triples()
        else:
            assert matched == _within(requirement, version)


@pytest.mark.parametrize(("requirement", "taken", "refused"), ROWS)
def test_the_intervals_hold_for_the_rows_too(requirement: str, taken: str, refused: str) -> None:
    parsed = Requirement.parse(requirement)
    releases = [v for v in map(Version.parse, refused.split()) if not v.is_prerelease]
    assert all(_within(parsed, Version.parse(text)) for text in taken.split())
    assert not any(_within(parsed, version) for version in releases)


def test_a_requirement_that_nothing_meets_has_no_interval() -> None:
    assert Requirement.parse("<1, >2").intervals() == []
    assert Requirement.parse("<0.0.0-0").intervals() != []  # 0.0.0-0 is the lowest word, not the lowest key
    assert Requirement.parse("*").intervals() == [(None, None)]


def test_pre_releases_are_looked_for_only_at_the_triples_that_are_named() -> None:
    assert Requirement.parse(">=1.2.3-a, <2.0.0-b, <3").prerelease_triples() == [(1, 2, 3), (2, 0, 0)]
    assert Requirement.parse(">=1.2.3").prerelease_triples() == []


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("=1.2.3", "1.2.3"),
        ("= 1.2.3", "1.2.3"),
        ("=v1.2.3", "1.2.3"),
        (" =1.2.3 ", "1.2.3"),
        ("=1.2.3-a.1+b", "1.2.3-a.1+b"),
        ("=0.1.5+rev-abc", "0.1.5+rev-abc"),
        ("=0.1", None),
        ("=1", None),
        ("=1.2.*", None),
        ("1.2.3", None),
        ("v1.2.3", None),
        ("^1.2.3", None),
        ("==1.2.3", None),
        ("=1.2.3, =1.2.3", None),
        ("=1.2.3,", None),
        ("=vv1.2.3", None),
        ("=01.2.3", None),
        ("", None),
    ],
)
def test_only_an_exact_requirement_names_one_version(text: str, version: str | None) -> None:
    wanted = None if version is None else Version.parse(version)
    assert exact_version(text) == wanted
    try:
        requirement = Requirement.parse(text)
    except RequirementError:
        return
    assert requirement.exact_version() == wanted


@pytest.mark.parametrize(
    ("text", "stripped"),
    [
        ("0.1.tar.gz", "0.1"),
        ("*.tar.gz", "*"),
        ("v1.2.3", "1.2.3"),
        ("v1.2.3.tar.gz", "1.2.3"),
        ("=v1.2.3", "=1.2.3"),
        ("= v1.2.3", "= 1.2.3"),
        (" 1.2 ", "1.2"),
        (">=1, <2", ">=1, <2"),
        ("value", "value"),
        (">=v1", ">=v1"),
    ],
)
def test_what_an_address_adds_is_taken_off(text: str, stripped: str) -> None:
    assert strip_url_form(text) == stripped


def test_a_requirement_from_an_address_is_still_checked() -> None:
    assert Requirement.from_url("v0.1.tar.gz") == Requirement.parse("0.1")
    with pytest.raises(RequirementError):
        Requirement.from_url("latest.tar.gz")


@given(REQUIREMENTS, st.lists(VERSIONS, max_size=15))
def test_the_best_version_is_the_highest_that_matches(text: str, versions: list[str]) -> None:
    requirement = Requirement.parse(text)
    parsed = [Version.parse(version) for version in versions]
    matching = [version for version in parsed if requirement.matches(version)]
    chosen = best(requirement, parsed)
    if chosen is None:
        assert matching == []
    else:
        assert chosen in matching
        assert all(chosen >= version for version in matching)


def test_of_equal_versions_the_first_is_chosen() -> None:
    newest, older = Version.parse("1.0.0+b"), Version.parse("1.0.0+a")
    assert best(Requirement.parse("*"), [newest, older]) == newest


def test_the_highest_version_wins_and_not_the_latest() -> None:
    texts = ["0.1.9", "0.2605.1", "0.1.10", "0.2605.1-a"]
    assert best(Requirement.parse("*"), map(Version.parse, texts)) == Version.parse("0.2605.1")
