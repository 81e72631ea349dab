"""The requirement rule of resolve-only tokens, row by row."""

import random
import re

import pytest

from piste.hub.access.requirement_rule import allowed, release_agrees
from tests.unit.semver import naive

REV_A = "rev-" + "a" * 40
REV_B = "rev-" + "b" * 40


@pytest.mark.parametrize(
    ("bound", "asked", "expected"),
    [
        # the same text, spaces apart
        ("0.1", "0.1", True),
        (">=1, <3", ">=1,<3", True),
        (">=1,<3", " >= 1, < 3 ", True),
        ("*", "*", True),
        ("=0.1", "=0.1", True),
        # an exact version that satisfies it
        ("0.1", "=0.1.175", True),
        ("0.1", "= 0.1.175", True),
        ("0.1", "=v0.1.175", True),
        ("0.1", f"=0.1.175+{REV_A}", True),
        ("0.1", f"=v0.1.175+{REV_A}", True),
        ("*", "=7.8.9", True),
        ("~1.2", "=1.2.9", True),
        (">=1.0.0-alpha", "=1.0.0-beta", True),
        ("=1.2.3", "=v1.2.3", True),
        # an exact version that doesn't
        ("0.1", "=0.2.0", False),
        ("~1.2", "=1.3.0", False),
        ("*", "=1.0.0-beta", False),
        # not exact: the equals sign alone is a range
        ("0.1", "=0.1", False),
        ("0", "=0", False),
        ("*", "=1.*", False),
        ("*", "=1.2.x", False),
        # other requirements, also those that would choose the same release
        ("0.1", "0.1.0", False),
        ("0.1", "^0.1", False),
        ("0.1", "~0.1", False),
        ("0.1", "0.1.175", False),
        ("0.1", "v0.1.175", False),
        ("0.1", "*", False),
        ("0.1", "", False),
        ("*", "0.1", False),
        ("0.1", "=0.1.175, =0.1.175", False),
        ("0.1", "=0.1.175,", False),
        ("0.1", "==0.1.175", False),
        ("0.1", "=V0.1.175", False),
        ("0.1", ">=0.1.175, <=0.1.175", False),
        # malformed
        ("0.1", "=0.1.175.1", False),
        ("0.1", "=00.1.175", False),
        ("0.1", "=0.1.175+", False),
        ("0.1", "=0.1.175 0.1.176", False),
        ("0.1", "=0.1.175\n", False),
        ("0.1", "=0.1.-175", False),
        ("0.1", "=0.1.175-", False),
        ("0.1", "=0.1.175-01", False),
        ("0.1", "= v 0.1.175", False),
        ("0.1", "v=0.1.175", False),
        ("0.1", "0.1.175=", False),
        # encodings are undone once, before this: what is left of them is no version
        ("0.1", "%3D0.1.175", False),
        ("0.1", "=0.1.175%2Brev", False),
        ("0.1", "=0%2E1%2E175", False),
        ("0.1", "\uff1d0.1.175", False),
        ("0.1", "=\u0660.1.175", False),
        ("0.1", "=0.1.175\x00", False),
        # case counts in what a pre-release is called
        (">=1.0.0-alpha", "=1.0.0-Alpha", False),
        ("=1.0.0-RC.1", "=1.0.0-RC.1", True),
        ("=1.0.0-RC.1", "=1.0.0-rc.1", False),
        # pre-releases: only beside one that the requirement names
        (">=1.0.0-alpha", "=1.0.1-beta", False),
        ("^1.0.0-alpha.1", "=1.0.0-alpha.2", True),
        ("^1.0.0-alpha.1", "=1.0.0-alpha.0", False),
        ("<2.0.0-beta", "=2.0.0-alpha", True),
        ("<2", "=2.0.0-alpha", False),
        # wildcards and lists as the bound
        ("1.*", "=1.9.9", True),
        ("1.*", "1.*", True),
        ("1.*", "1.x", False),
        (">=1, <3", "=2.9.9", True),
        (">=1, <3", "=3.0.0", False),
        (">=1, <3", "<3, >=1", False),
        (
            "=1.2.3+abc",
            "=1.2.3+xyz",
            True,
        ),  # metadata of a requirement are ignored; the release's own are looked at later
        ("0.0.3", "=0.0.4", False),
    ],
)
def test_a_token_bound_to_a_requirement_accepts(bound: str, asked: str, expected: bool) -> None:
    assert allowed(bound, asked) is expected


@pytest.mark.parametrize(
    ("asked", "release", "minimum", "expected"),
    [
        ("0.1", f"0.1.175+{REV_A}", None, True),
        ("=0.1.175", f"0.1.175+{REV_A}", None, True),
        (f"=0.1.175+{REV_A}", f"0.1.175+{REV_A}", None, True),
        (f"=0.1.175+{REV_B}", f"0.1.175+{REV_A}", None, False),
        (f"=0.1.175+{REV_A}", "0.1.175", None, False),
        ("0.1", "0.1.175", "0.1.175", True),
        ("0.1", "0.1.174", "0.1.175", False),
        ("=0.1.174", "0.1.174", "0.1.175", False),
        ("0.1", f"0.1.175+{REV_A}", f"0.1.175+{REV_B}", True),
    ],
)
def test_the_release_has_the_metadata_that_were_asked_for_and_the_minimum_version(
    asked: str, release: str, minimum: str | None, expected: bool
) -> None:
    assert release_agrees("0.1", asked, release, minimum) is expected


def test_ten_thousand_questions_are_answered_as_by_the_second_formulation() -> None:
    draw = random.Random(20_250)
    bounds = [
        "*",
        "0.1",
        "^1.2",
        "~1.2.3",
        ">=1, <3",
        "=0.1",
        "=1.2.3",
        "1.*",
        ">1.0.0-alpha",
        "<2.0.0-beta.2",
    ]
    seen = {True: 0, False: 0}
    for _ in range(10_000):
        bound = draw.choice(bounds)
        asked = _question(draw, bound)
        expected = _second_formulation(bound, asked)
        assert allowed(bound, asked) is expected, (bound, asked)
        seen[expected] += 1
    assert min(seen.values()) > 1_000


def _question(draw: random.Random, bound: str) -> str:
    numbers = ".".join(
        str(draw.choice([0, 0, 1, 1, 2, 3, 10])) for _ in range(draw.choice([1, 2, 3, 3, 3, 3, 4]))
    )
    pre = draw.choice(["", "", "", "-alpha", "-beta.1", "-0", "-01", "-"])
    build = draw.choice(["", "", "", "+rev", "+a.b-c", "+"])
    exact = (
        draw.choice(["=", "=", "=", "= ", " =", "=v", "= v", "", "v", "^", "==", "=V"])
        + numbers
        + pre
        + build
    )
    return draw.choice(
        [exact, exact, exact, bound, f" {bound} ", bound.replace(",", " ,"), f"{exact}, {bound}"]
    )


def _second_formulation(bound: str, asked: str) -> bool:
    """By a regular expression of Semantic Versioning, and the second formulation of requirements."""
    if re.sub(r"\s", "", asked) == re.sub(r"\s", "", bound):
        return True
    exact = re.fullmatch(
        rf" *= *v?((?:{naive._N}\.){{2}}{naive._N}(?:-{naive._PRE})?)(?:\+{naive._BUILD})? *", asked
    )
    return exact is not None and naive.matches(bound, exact[1])
