"""Where on a host things are."""

from pathlib import Path

import pytest

from piste.host.place import Host
from piste.host.records import Kind
from piste.lib.errors import UsageError


def test_the_state_of_a_root_lies_below_it(tmp_path: Path) -> None:
    root = tmp_path / "root"
    assert Host.at("auto", root).state_folder(Kind.NIXOS) == root / "var/lib/piste"


def test_a_link_that_stays_within_the_root_is_followed(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "var").symlink_to("data")
    assert Host.at("auto", tmp_path).state_folder(Kind.NIXOS).resolve() == tmp_path / "data/lib/piste"


@pytest.mark.parametrize("place", ["var", "var/lib", "var/lib/piste"])
def test_a_link_that_leads_out_of_the_root_is_refused(tmp_path: Path, place: str) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    outside.mkdir()
    (root / place).parent.mkdir(parents=True)
    (root / place).symlink_to(outside)
    with pytest.raises(UsageError, match="out of"):
        Host.at("auto", root).state_folder(Kind.NIXOS)
