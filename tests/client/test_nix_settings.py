"""The user's netrc and nix.conf are merged, never overwritten."""

import pwd
import stat
from pathlib import Path

import pytest

from piste.client import credentials, nix_settings
from piste.client.address import parse_address
from piste.lib.errors import PisteError

HUB = parse_address("https://hub.example.org")
KEY = "acme-1:zxtKo3HaEgJ0rr/bBxJgeW9rc9w5XTE6fgtraoC/gsg="


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("PISTE_CONFIG_HOME", str(tmp_path / "piste"))
    (tmp_path / "nix").mkdir()
    return tmp_path / "nix"


def test_both_files_are_made_where_there_are_none(folder: Path) -> None:
    assert nix_settings.teach(HUB, "secret", [KEY]) == [folder / "netrc", folder / "nix.conf"]
    assert (folder / "netrc").read_text() == "machine hub.example.org login piste password secret\n"
    assert stat.S_IMODE((folder / "netrc").stat().st_mode) == 0o600
    conf = (folder / "nix.conf").read_text().splitlines()
    assert conf == [f"netrc-file = {folder}/netrc", f"extra-trusted-public-keys = {KEY}"]


def test_who_may_read_nix_conf_stays_as_it_was(folder: Path) -> None:
    conf = folder / "nix.conf"
    conf.write_text("access-tokens = example.org=secret\n")
    conf.chmod(0o600)
    nix_settings.teach(HUB, "secret", [KEY])
    assert stat.S_IMODE(conf.stat().st_mode) == 0o600


def test_the_daemons_own_settings_get_the_keys_and_no_token(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = pwd.getpwuid(0)
    home = pwd.struct_passwd((*entry[:5], str(tmp_path / "root"), entry[6]))
    monkeypatch.setattr(pwd, "getpwuid", lambda _: home)
    monkeypatch.setattr(nix_settings, "_DAEMON", tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "root/.config"))
    conf = nix_settings.nix_conf()
    assert nix_settings.teach(HUB, "secret", [KEY]) == [conf]
    assert conf.read_text() == f"extra-trusted-public-keys = {KEY}\n"
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == [conf]


def test_doing_it_twice_changes_nothing_the_second_time() -> None:
    nix_settings.teach(HUB, "secret", [KEY])
    assert nix_settings.teach(HUB, "secret", [KEY]) == []


def test_what_is_there_stays(folder: Path) -> None:
    (folder / "nix.conf").write_text("cores = 3\nextra-trusted-public-keys = other-1:abc=")
    (folder / "netrc").write_text("machine other.example.org\n  login me\n  password mine\n")
    nix_settings.teach(HUB, "secret", [KEY])
    conf = (folder / "nix.conf").read_text()
    assert conf.startswith("cores = 3\nextra-trusted-public-keys = other-1:abc=\n")
    assert KEY in conf
    assert "machine other.example.org\n  login me\n  password mine\n" in (folder / "netrc").read_text()


def test_the_netrc_that_nix_conf_names_is_the_one_that_is_merged(folder: Path, tmp_path: Path) -> None:
    (folder / "nix.conf").write_text(f"netrc-file = {tmp_path}/mine\n")
    assert nix_settings.teach(HUB, "secret", []) == [tmp_path / "mine"]
    assert not (folder / "netrc").exists()


def test_an_entry_for_all_hosts_does_not_win_over_the_hub(folder: Path) -> None:
    (folder / "netrc").write_text("default login anonymous password x\n")
    nix_settings.teach(HUB, "secret", [])
    assert (folder / "netrc").read_text().startswith("machine hub.example.org ")


def test_another_password_for_the_hub_is_a_conflict_with_file_and_line(folder: Path) -> None:
    before = "# mine\nmachine x login a password b\nmachine hub.example.org login me password mine\n"
    (folder / "netrc").write_text(before)
    with pytest.raises(PisteError) as caught:
        nix_settings.teach(HUB, "secret", [KEY])
    assert f"{folder}/netrc, line 3" in caught.value.message
    assert "mine" not in caught.value.message.replace("mine)", "")
    assert (folder / "netrc").read_text() == before
    assert not (folder / "nix.conf").exists()


def test_another_key_of_the_same_name_is_a_conflict_and_nothing_is_written(folder: Path) -> None:
    (folder / "nix.conf").write_text("\ntrusted-public-keys = acme-1:AAAA=\n")
    with pytest.raises(PisteError) as caught:
        nix_settings.teach(HUB, "secret", [KEY])
    assert f"{folder}/nix.conf, line 2" in caught.value.message
    assert not (folder / "netrc").exists()


def test_a_new_token_replaces_the_one_of_the_login_before(folder: Path) -> None:
    nix_settings.teach(HUB, "old", [])
    credentials.write_login(credentials.Login(HUB.url, "old"))
    nix_settings.teach(HUB, "new", [])
    assert (folder / "netrc").read_text() == "machine hub.example.org login piste password new\n"


def test_logging_out_takes_out_the_token_and_nothing_else(folder: Path) -> None:
    (folder / "netrc").write_text("machine other login a password b\n")
    nix_settings.teach(HUB, "secret", [])
    assert nix_settings.forget(HUB, "secret") == [folder / "netrc"]
    assert (folder / "netrc").read_text() == "machine other login a password b\n"
    assert nix_settings.forget(HUB, "secret") == []
