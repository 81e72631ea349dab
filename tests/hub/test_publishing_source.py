"""A source is read as it streams by, never unpacked, and refused when it is anything but a plain flake."""

import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile
import tracemalloc
from pathlib import Path

import pytest

from piste.hub.errors import HubError
from piste.hub.publish.records import Announced
from piste.hub.publish.source import Source, SourceIntake
from tests.hub.process import Hub
from tests.hub.publishing import Acme, chain, make_tar, stored_files
from tests.running.closures import ATTRIBUTE, make_source

FLAKE = b"{ outputs = _: { }; }\n"
LOCK = json.dumps({"nodes": {}, "root": "root", "version": 7}).encode()


def take(folder: Path, data: bytes, *, announced: Announced | None = None, step: int = 10_000) -> Source:
    intake = SourceIntake(folder, announced)
    for start in range(0, len(data), step):
        intake.feed(data[start : start + step])
    return intake.finish()


def refusal(folder: Path, data: bytes, *, announced: Announced | None = None) -> str:
    with pytest.raises(HubError) as caught:
        take(folder, data, announced=announced)
    assert caught.value.ref == "bad-source"
    assert list(folder.iterdir()) == []
    return caught.value.message


def entry(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    return made


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize("step", [1 << 20, 7])
def test_readme_and_licence_are_read_and_long_names_do_no_harm(tmp_path: Path, form: int, step: int) -> None:
    buffer = io.BytesIO()
    licence = "Permission is hereby granted, free of charge, … without restriction"
    files = {
        "flake.nix": FLAKE,
        "flake.lock": LOCK,
        "README.md": "# Übung".encode(),
        "LICENSE": licence.encode(),
        "/".join(["folder" * 10] * 3) + "/file": b"x" * 3000,
    }
    with tarfile.open(fileobj=buffer, mode="w:gz", format=form) as archive:
        archive.addfile(entry("src", tarfile.DIRTYPE))
        for name, content in files.items():
            info = tarfile.TarInfo(f"src/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    source = take(tmp_path, buffer.getvalue(), step=step)
    assert (source.readme, source.license) == ("# Übung", "MIT")
    assert source.size == len(buffer.getvalue())
    assert source.file.read_bytes() == buffer.getvalue()


def test_an_archive_by_git_is_accepted(tmp_path: Path) -> None:
    tree, spool = tmp_path / "tree", tmp_path / "spool"
    tree.mkdir()
    spool.mkdir()
    (tree / "flake.nix").write_bytes(FLAKE)
    (tree / "link").symlink_to("/nix/store/somewhere")
    settings = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    for command in (["init", "-q"], ["add", "."], [*settings, "commit", "-q", "-m", "x"]):
        subprocess.run(["git", *command], cwd=tree, check=True)
    made = subprocess.run(
        ["git", "archive", "--format=tar.gz", "--prefix=source/", "HEAD"],
        cwd=tree,
        check=True,
        capture_output=True,
    )
    assert take(spool, made.stdout).license is None


def test_the_digest_is_that_of_the_archive_inside_however_it_is_packed(tmp_path: Path) -> None:
    plain = gzip.decompress(make_source("x"))
    digests = {take(tmp_path, gzip.compress(plain, level)).digest for level in (1, 9)}
    assert len(digests) == 1


def test_a_flake_is_looked_for_at_the_top_alone(tmp_path: Path) -> None:
    files = {"s/README": b"whole", "s/nix/flake.nix": FLAKE, "s/nix/README.md": b"near"}
    assert "flake.nix at its top" in refusal(tmp_path, make_tar(files))


def test_an_announced_source_is_what_was_announced(tmp_path: Path) -> None:
    data = make_source("x")
    digest = hashlib.sha256(data).hexdigest()
    take(tmp_path, data, announced=Announced(len(data), digest)).file.unlink()
    assert "announced" in refusal(tmp_path, data, announced=Announced(len(data) - 1, digest))
    assert "announced" in refusal(tmp_path, data, announced=Announced(len(data) + 1, digest))
    assert "SHA-256" in refusal(tmp_path, data, announced=Announced(len(data), "0" * 64))


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"s/../../etc/passwd": b"x", "s/flake.nix": FLAKE}, "leave"),
        ({"../flake.nix": FLAKE}, "leave"),
        ({"/s/flake.nix": FLAKE}, "inside"),
        ({"s/flake.nix": FLAKE, "t/other": b""}, "single folder"),
        ({"flake.nix": FLAKE}, "single folder"),
        ({"s/flake.nix": FLAKE, "s/flake.nix/": FLAKE}, "contents"),
        ({"s/link": entry("s/link", tarfile.SYMTYPE, "/etc"), "s/link/passwd": b"x"}, "link"),
        ({"s/hard": entry("s/hard", tarfile.LNKTYPE, "/etc/passwd")}, "leaves"),
        ({"s/hard": entry("s/hard", tarfile.LNKTYPE, "s/../../x")}, "leaves"),
        ({"s/device": entry("s/device", tarfile.CHRTYPE)}, "neither"),
        ({"s/pipe": entry("s/pipe", tarfile.FIFOTYPE)}, "neither"),
        ({"s/flake.nix": b"x" * (1 << 20) + b"x"}, "larger"),
        ({"s/flake.nix": FLAKE, "s/flake.lock": b"{"}, "JSON"),
        ({"s/flake.nix": FLAKE, "s/flake.lock": b"[" * 100_000}, "lock"),
        ({"s/flake.nix": FLAKE, "s/flake.lock": b"[]"}, "lock"),
        ({"s/" + "n" * 256: b"", "s/flake.nix": FLAKE}, "255"),
        ({"s/" + "n/" * 3000 + "x": b"", "s/flake.nix": FLAKE}, "4096"),
        ({"s/other": b""}, "flake.nix"),
    ],
)
def test_what_is_not_a_plain_flake_is_refused(
    tmp_path: Path, files: dict[str, bytes | tarfile.TarInfo], words: str
) -> None:
    assert words in refusal(tmp_path, make_tar(files))


def test_a_file_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for content in (FLAKE, b"{ }"):
            info = tarfile.TarInfo("s/flake.nix")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    assert "twice" in refusal(tmp_path, buffer.getvalue())


def test_an_archive_that_is_cut_damaged_or_followed_by_something_is_refused(tmp_path: Path) -> None:
    whole = make_source("x")
    plain = gzip.decompress(whole)
    assert "cut" in refusal(tmp_path, whole[:-20])
    assert "cut" in refusal(tmp_path, gzip.compress(plain[:600]))
    assert "no end" in refusal(tmp_path, gzip.compress(plain[:1024]))
    assert "after the end" in refusal(tmp_path, whole + b"more")
    assert "after the end" in refusal(tmp_path, whole + whole)
    assert "checksum" in refusal(tmp_path, gzip.compress(b"S" + plain[1:]))
    refusal(tmp_path, b"not gzip at all")
    refusal(tmp_path, b"")


def test_a_header_that_is_far_too_long_is_refused(tmp_path: Path) -> None:
    long = tarfile.TarInfo("s/" + "x" * 70_000)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=tarfile.GNU_FORMAT) as archive:
        archive.addfile(long)
    assert "header" in refusal(tmp_path, buffer.getvalue())


def test_a_bomb_is_stopped_early_in_bounded_memory(tmp_path: Path) -> None:
    info = tarfile.TarInfo("s/zeros")
    info.size = 1 << 30
    head = info.tobuf()
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=9) as file:
        file.write(head)
        for _ in range(256):
            file.write(bytes(1 << 20))
    tracemalloc.start()
    assert "tighter" in refusal(tmp_path, packed.getvalue())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20


def test_too_many_entries_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("piste.hub.publish.tar.ENTRY_LIMIT", 100)
    files: dict[str, bytes | tarfile.TarInfo] = {f"s/{number}": b"" for number in range(101)}
    assert "entries" in refusal(tmp_path, make_tar({"s/flake.nix": FLAKE, **files}))


def test_a_refused_source_leaves_the_publication_as_it_was(sqlite_hub: Hub) -> None:
    acme = Acme(sqlite_hub)
    closure = chain("app")
    filling = acme.open()
    filling.declare(closure, {ATTRIBUTE: closure[-1]})
    filling.upload_missing(closure)
    answer = filling.source(make_tar({"../flake.nix": FLAKE}))
    assert (answer.status, answer.ref) == (422, "bad-source")
    assert filling.source(os.urandom(3000)).ref == "bad-source"
    assert stored_files(sqlite_hub, "spool") == stored_files(sqlite_hub, "source") == []
    assert filling.finish().ref == "bad-source"
    assert filling.source().status == 204
    assert filling.finish().status == 200


def test_what_a_publisher_wrote_is_an_attachment_in_a_sandbox(sqlite_hub: Hub) -> None:
    acme = Acme(sqlite_hub)
    acme.publish("1.0.0", chain("app"), metadata={"revision": "b" * 40, "commit_count": 7})
    moved = acme.ask("GET", f"/f/{acme.organization}/web/1.tar.gz", headers={"Host": "evil.example"})
    assert moved.status == 307
    location = moved.headers["location"]
    assert location.startswith(f"{sqlite_hub.url}/f/pinned/{acme.organization}/web/1.0.0/")
    query = f"?rev={'b' * 40}&revCount=7"
    assert moved.headers["link"] == f'<{location}{query}>; rel="immutable"'
    source = acme.ask("GET", location.removeprefix(sqlite_hub.url))
    assert source.body == make_source("a flake")
    assert source.headers["x-content-type-options"] == "nosniff"
    assert source.headers["content-disposition"].startswith("attachment")
    assert "sandbox" in source.headers["content-security-policy"]
    assert source.headers["etag"] == f'"{location.split("/")[-2]}"'
    assert source.headers["link"] == moved.headers["link"]
    same = acme.ask(
        "GET", location.removeprefix(sqlite_hub.url), headers={"If-None-Match": source.headers["etag"]}
    )
    assert same.status == 304
    stranger = Acme(sqlite_hub)
    assert stranger.ask("GET", f"/f/{acme.organization}/web/1").status == 404
    assert sqlite_hub.request("GET", location.removeprefix(sqlite_hub.url)).status == 404
