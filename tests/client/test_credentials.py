"""Which token is used for which hub, and how it is kept."""

import stat
from pathlib import Path

import pytest

from piste.client import credentials
from piste.lib.errors import PisteError, UsageError

HUB = "https://hub.example.org"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("PISTE_HUB", "PISTE_TOKEN", "PISTE_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PISTE_CONFIG_HOME", str(tmp_path / "config"))


def test_without_a_hub_the_error_says_how_to_set_it() -> None:
    with pytest.raises(UsageError) as caught:
        credentials.find_credential()
    assert caught.value.ref == "hub-missing"
    assert "PISTE_HUB" in (caught.value.hint or "")


def test_a_login_is_kept_for_this_user_alone_and_read_back() -> None:
    login = credentials.Login(HUB, "secret", "user", ["acme"], {"acme": ["acme-1:key"]})
    path = credentials.write_login(login)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert credentials.read_login() == login
    assert credentials.delete_login()
    assert credentials.read_login() is None
    assert not credentials.delete_login()


def test_the_stored_token_goes_to_no_other_hub() -> None:
    credentials.write_login(credentials.Login(HUB, "secret"))
    assert credentials.find_credential().token == "secret"
    assert credentials.find_credential(HUB + "/").token == "secret"
    assert credentials.find_credential("https://other.example.org").token is None
    assert credentials.find_credential("https://hub.example.org:8443").token is None


def test_what_is_given_comes_before_what_is_stored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    credentials.write_login(credentials.Login(HUB, "stored"))
    (tmp_path / "one").write_text("from-variable-file\n")
    (tmp_path / "two").write_text("  from-flag\n")
    monkeypatch.setenv("PISTE_TOKEN_FILE", str(tmp_path / "one"))
    assert credentials.find_credential().token == "from-variable-file"
    monkeypatch.setenv("PISTE_TOKEN", "from-variable")
    assert credentials.find_credential().token == "from-variable"
    assert credentials.find_credential(None, tmp_path / "two").token == "from-flag"


def test_a_token_is_not_sent_in_the_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PISTE_TOKEN", "secret")
    with pytest.raises(UsageError) as caught:
        credentials.find_credential("http://hub.example.org")
    assert caught.value.ref == "insecure-hub"
    assert credentials.find_credential("http://127.0.0.1:1").token == "secret"


@pytest.mark.parametrize("content", [b"", b" \n", b"two words", b"\xff\xfe", b"a\nb", b"x" * 20_000])
def test_a_file_without_a_token_is_refused_and_not_quoted(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        credentials.read_token(file)
    assert str(file) in str(caught.value)
    assert "two words" not in str(caught.value)


def test_a_missing_token_file_is_a_usage_error(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(UsageError):
            credentials.read_token(path)


def test_a_damaged_login_says_what_to_do() -> None:
    credentials.write_login(credentials.Login(HUB, "secret"))
    credentials.login_file().write_text("{")
    with pytest.raises(PisteError) as caught:
        credentials.read_login()
    assert caught.value.ref == "login-unreadable"


def test_nothing_that_is_printed_of_a_credential_holds_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PISTE_TOKEN", "hunter2")
    assert "hunter2" not in repr(credentials.find_credential(HUB))
    assert "hunter2" not in repr(credentials.Login(HUB, "hunter2"))
