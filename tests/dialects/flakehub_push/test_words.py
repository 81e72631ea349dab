"""What `flakehub-push` says, in Piste's words: pure translations."""

from typing import Any

import pytest

from piste.hub.flakehub.release_metadata import ReleaseMetadata, is_rolling, opening, repository_of

GITHUB = "https://token.actions.githubusercontent.com"


@pytest.mark.parametrize(
    ("issuer", "subject", "repository"),
    [
        (GITHUB, "repo:acme/web:ref:refs/heads/main", "https://github.com/acme/web"),
        (GITHUB, "repo:acme/web:environment:a:b", "https://github.com/acme/web"),
        ("https://gitlab.com", "project_path:a/b/c:ref_type:branch:ref:main", "https://gitlab.com/a/b/c"),
        ("https://git.example/api/actions", "repo:acme/web:ref:x", "https://git.example/acme/web"),
        ("https://other.example", "repo:acme/web:ref:x", None),
        (GITHUB, "repo:acme:ref:x", None),
        (GITHUB, "repo:acme/../x:ref:x", None),
        (GITHUB, "repo:acme/w?b:ref:x", None),
        (GITHUB, "", None),
        (None, "repo:acme/web:ref:x", None),
        (GITHUB, None, None),
    ],
)
def test_gotcha_12_the_repository_is_in_the_identity(
    issuer: str | None, subject: str | None, repository: str | None
) -> None:
    assert repository_of(issuer, subject) == repository


@pytest.mark.parametrize(
    ("flake", "repository"),
    [
        ({"original": {"type": "github", "owner": "o", "repo": "r"}}, "https://github.com/o/r"),
        ({"locked": {"type": "gitlab", "owner": "o", "repo": "r"}}, "https://gitlab.com/o/r"),
        (
            {"locked": {"type": "gitlab", "owner": "o", "repo": "r", "host": "git.example"}},
            "https://git.example/o/r",
        ),
        ({"original": {"type": "git", "url": "ssh://git@code.example/x"}}, "ssh://git@code.example/x"),
        ({"original": {"type": "git", "url": "file:///home/me/x"}}, None),
        ({"original": {"type": "git", "url": "https://me:word@code.example/x"}}, None),
        ({"original": {"type": "github", "owner": 1, "repo": None}}, None),
        ({"original": "github:o/r"}, None),
        ([1], None),
        (None, None),
    ],
)
def test_without_an_identity_the_repository_is_where_nix_has_it_from(
    flake: Any, repository: str | None
) -> None:
    said = ReleaseMetadata(raw_flake_metadata=flake)
    assert opening(said, "1.0.0", None, None).metadata.repository == repository


@pytest.mark.parametrize(
    ("version", "rolling"),
    [(f"0.1.7+rev-{'a' * 40}", True), ("0.1.7", False), ("v0.1.7", False), (f"v0.1.7+rev-{'a' * 40}", False)],
)
def test_which_versions_roll_is_seen_by_their_form(version: str, rolling: bool) -> None:
    assert is_rolling(version) is rolling
