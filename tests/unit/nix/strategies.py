"""Random things of Nix, for properties that must hold for all of them."""

from hypothesis import strategies as st

from piste.nix.base32 import ALPHABET
from piste.nix.hashes import Hash
from piste.nix.narinfo import PathInfo
from piste.nix.store_path import StorePath

NAME_CHARACTERS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+?=_-."

hash_parts = st.text(ALPHABET, min_size=32, max_size=32)
names = st.one_of(
    st.text(NAME_CHARACTERS, min_size=1, max_size=20).filter(lambda n: not n.startswith(".")),
    st.sampled_from([".a", "...", "..a", ".a-b", "a" * 211, "gtk+-3.0", "a=b?c"]),
)
store_paths = st.builds(StorePath, hash_parts, names)
sha256s = st.builds(Hash, st.just("sha256"), st.binary(min_size=32, max_size=32))
signatures = st.builds(
    "{}:{}".format, st.sampled_from(["cache-1", "hub.example-2"]), st.just("A" * 86 + "==")
)
path_infos = st.builds(
    PathInfo,
    path=store_paths,
    nar_hash=sha256s,
    nar_size=st.integers(1, 2**63 - 1),
    references=st.lists(store_paths, max_size=5).map(tuple),
    deriver=st.none() | store_paths,
    signatures=st.lists(signatures, max_size=2).map(tuple),
    ca=st.none() | sha256s.map(lambda h: f"fixed:r:{h.nix32()}"),
)
