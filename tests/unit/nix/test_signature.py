"""Keys and signatures in Nix's form."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piste.nix.signature import PublicKey, SecretKey, SignatureKeyError, is_signature, verify_any

# The first test of RFC 8032, section 7.1: a seed, its public key, and its signature of the empty text.
SEED = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
PUBLIC = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
SIGNATURE = bytes.fromhex(
    "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
    "d25bf5f0595bbe24655141438e7a100b"
)


def test_the_vector_of_the_standard_holds() -> None:
    key = SecretKey("k-1", SEED)
    assert key.public == PublicKey("k-1", PUBLIC)
    assert key.sign("") == f"k-1:{base64.b64encode(SIGNATURE).decode()}"
    assert SecretKey.parse(f"k-1:{base64.b64encode(SEED + PUBLIC).decode()}") == key


@given(st.text(), st.text())
def test_a_signature_is_valid_for_its_text_and_no_other(text: str, other: str) -> None:
    try:
        text.encode(), other.encode()
    except UnicodeEncodeError:
        return
    key = SecretKey("k", SEED)
    signature = key.sign(text)
    assert is_signature(signature)
    assert key.public.verify(text, signature)
    assert key.public.verify(other, signature) == (text == other)


def test_a_key_reads_back_and_never_shows_itself() -> None:
    key = SecretKey.generate("hub.example-1")
    assert SecretKey.parse(key.format_secret()) == key
    assert SecretKey.parse(key.format_secret() + "\n") == key
    assert PublicKey.parse(str(key.public)) == key.public
    secret = base64.b64encode(key.seed).decode()[:20]
    assert secret in key.format_secret()
    assert secret not in repr(key)
    assert secret not in str(key)
    assert repr(key.seed) not in repr(key)


def test_only_a_key_of_the_same_name_counts() -> None:
    key = SecretKey("a-1", SEED)
    same_key_other_name = PublicKey("b-1", PUBLIC)
    signature = key.sign("text")
    assert not same_key_other_name.verify("text", signature)
    assert not same_key_other_name.verify("text", signature.replace("a-1", "b-2"))
    other = SecretKey.generate("a-1").public
    assert verify_any([same_key_other_name, other, key.public], "text", ["x:y", signature]) == key.public
    assert verify_any([same_key_other_name, other], "text", [signature]) is None
    assert verify_any([], "text", [signature]) is None


@pytest.mark.parametrize(
    "signature", ["", "k", "k:", "k:!", "k:AAAA", "k:" + "A" * 86, "k:" + "A" * 86 + "==", ":AAAA"]
)
def test_what_is_no_signature_is_simply_not_valid(signature: str) -> None:
    assert not PublicKey("k", PUBLIC).verify("text", signature)


@pytest.mark.parametrize(
    "text",
    ["", "name", "name:", "name:AAAA", ":" + "A" * 43 + "=", "a b:" + "A" * 43 + "=", "name:" + "!" * 44],
)
def test_what_is_no_key_is_refused_without_being_quoted(text: str) -> None:
    for parse in (PublicKey.parse, SecretKey.parse):
        with pytest.raises(SignatureKeyError) as caught:
            parse(text)
        assert not text or "AAAA" not in str(caught.value)


def test_the_wrong_kind_of_key_is_named() -> None:
    key = SecretKey("k", SEED)
    with pytest.raises(SignatureKeyError, match="is a secret key, but a public key belongs here"):
        PublicKey.parse(key.format_secret())
    with pytest.raises(SignatureKeyError, match="is a public key, but a secret key belongs here"):
        SecretKey.parse(str(key.public))
    mixed = base64.b64encode(SEED + SecretKey.generate("k").public.key).decode()
    with pytest.raises(SignatureKeyError, match="do not belong together"):
        SecretKey.parse(f"k:{mixed}")


@pytest.mark.parametrize(
    "text", ["", "k", "k:AAAA", "k:" + "A" * 86, "a b:" + "A" * 86 + "==", "k:" + "A" * 88]
)
def test_a_text_without_the_form_of_a_signature_is_recognised(text: str) -> None:
    assert not is_signature(text)
