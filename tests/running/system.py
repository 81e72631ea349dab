"""Something in the shape of a NixOS system, as bytes: it can be applied below a folder, and does nothing."""

from collections.abc import Mapping

from piste.host.place import system_type
from piste.nix.nar import NarWriter
from tests.running.closures import Member, new_path
from tests.running.command import ROOT

Tree = Mapping[str, "Tree | bytes"]  # a name that ends in `*` is an executable file's


def busybox() -> Member:
    """A shell that needs nothing else."""
    program = (ROOT / ".cache/nix/bin/busybox").resolve().read_bytes()
    return Member(new_path("busybox", "busybox"), _nar({"bin": {"busybox*": program}}), ())


def system(name: str, shell: Member, *, activation: str = "exit 0") -> Member:
    """A system's toplevel; `activation` is what its switch-to-configuration does."""
    script = f"#!{shell.path}/bin/busybox sh\n{activation}\n".encode()
    tree: Tree = {
        "activate*": script,
        "bin": {"switch-to-configuration*": script},
        "init*": script,
        "nixos-version": name.encode(),
        "system": system_type().encode(),
    }
    return Member(new_path(f"nixos-system-{name}", name), _nar(tree), (shell.path,))


def _nar(tree: Tree) -> bytes:
    writer = NarWriter()
    pieces: list[bytes] = []

    def write(tree: Tree) -> None:
        pieces.append(writer.directory())
        for name, node in sorted(tree.items()):
            pieces.append(writer.entry(name.rstrip("*").encode()))
            if isinstance(node, bytes):
                pieces.append(writer.regular(len(node), executable=name.endswith("*")))
                pieces.append(bytes(writer.data(node)))
                pieces.append(writer.end())
            else:
                write(node)
        pieces.append(writer.end())

    write(tree)
    return b"".join(pieces)
