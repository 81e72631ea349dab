"""The requirement rule of resolve-only tokens, row by row."""

import pytest

from piste.hub.access.requirement_rule import allowed, release_agrees

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
