"""Real Nix, unmodified: builds, substitutes and pushes with a netrc, as people do who have no piste."""

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from piste.host.place import system_type
from piste.nix.nar import token
from piste.nix.signature import PublicKey
from tests.running.closures import Member
from tests.running.command import ROOT, Finished, Person, check

# Derivations that need nothing but the sandbox's shell: `run NAME SCRIPT`.
RUN = f"""run = name: script: derivation {{
  inherit name; system = "{system_type()}"; builder = "/bin/sh"; args = [ "-ec" script ];
}};"""


def nix_of(version: str) -> Path | None:
    """The commands of the Nix of a Debian release; None where set-up has not brought them."""
    folder = ROOT / ".cache/nix" / version / "bin"
    return folder if (folder / "nix").exists() else None


def build(person: Person, definitions: str, wanted: str) -> str:
    """The store path of `wanted`, built in their own store; `definitions` may use `run NAME SCRIPT`."""
    argv = ["nix-build", "--no-out-link", "--expr", f"let {RUN} {definitions} in {wanted}"]
    return check(person.run(*argv), argv)


def closure(person: Person, path: str) -> list[str]:
    """All that a path reaches, itself too."""
    return check(person.run("nix-store", "-qR", path)).split()


def configured(person: Person, url: str, token: str | None, keys: Sequence[PublicKey]) -> Person:
    """The person with a netrc for the hub and with the keys that they trust."""
    netrc = person.folder / "netrc"
    netrc.touch(mode=0o600)
    host = urlsplit(url).hostname
    netrc.write_text(f"machine {host} login anybody password {token}\n" if token else "")
    lines = [
        f"netrc-file = {netrc}",
        "trusted-public-keys = " + " ".join(map(str, keys)),
        # What was missing a moment ago may be there now, and the tests ask at once.
        "narinfo-cache-negative-ttl = 0",
        "narinfo-cache-positive-ttl = 0",
        "download-attempts = 1",
        "connect-timeout = 5",
    ]
    return Person(
        person.folder, person.hub, person.token, person.nix, {**person.extra, "NIX_CONFIG": "\n".join(lines)}
    )


def copy_from(person: Person, cache_url: str, *paths: str) -> Finished:
    """`nix copy --from`."""
    return person.run("nix", "copy", "--from", cache_url, "--to", person.store, *paths)


def copy_to(person: Person, cache_url: str, *paths: str) -> Finished:
    """`nix copy --to`."""
    return person.run("nix", "copy", "--from", person.store, "--to", cache_url, *paths)


def plant(person: Person, member: Member) -> None:
    """Put any bytes under any store path of the person's own store, which nobody can keep them from."""
    data = (1).to_bytes(8, "little") + member.nar + (0x4558494E).to_bytes(8, "little")
    data += token(str(member.path).encode())
    data += len(member.references).to_bytes(8, "little")
    data += b"".join(token(str(path).encode()) for path in member.references)
    data += token(b"") + bytes(8) + bytes(8)
    file = person.folder / "planted"
    file.write_bytes(data)
    check(person.run("sh", "-c", 'exec nix-store --import < "$1"', "sh", str(file)))


def substitute(person: Person, cache_url: str, *paths: str) -> Finished:
    """`nix-store --realise` with the cache as a substituter."""
    return person.run("nix-store", "--realise", *paths, "--option", "substituters", cache_url)


def has(person: Person, path: str) -> bool:
    """Whether the path is valid in the person's store."""
    return person.run("nix-store", "--check-validity", path).code == 0


def content(person: Person, path: str) -> str:
    """What a path that is a file holds."""
    return (person.root / path.lstrip("/")).read_text()


def write_flake(person: Person, folder: Path, definitions: str, outputs: str) -> Path:
    """A flake in a Git repository with one commit; `definitions` may call `run NAME SCRIPT`."""
    folder.mkdir(parents=True, exist_ok=True)
    text = f"{{ outputs = {{ self }}: let {RUN}\n{definitions}\nin {{\n{outputs}\n}}; }}\n"
    (folder / "flake.nix").write_text(text)
    if not (folder / ".git").exists():
        check(person.run("git", "init", "-q", "-b", "main", cwd=folder))
    commit(person, folder, "A system")
    return folder


def commit(person: Person, folder: Path, message: str) -> None:
    """Everything in the folder, as one commit more."""
    check(person.run("git", "add", "-A", cwd=folder))
    who = ["-c", "user.name=tester", "-c", "user.email=tester@localhost"]
    check(person.run("git", *who, "commit", "-q", "--allow-empty", "-m", message, cwd=folder))
