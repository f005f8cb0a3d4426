import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_protocol.errors import MalformedMessageError
from swarm_protocol.identifiers import (
    MAX_BLOCKS,
    BlockChain,
    BlockRange,
    check_dht_prefix,
    derive_dht_prefix,
    make_uid,
    parse_peer_id,
    parse_uid,
)
from swarm_protocol.serializer import pack

PEER_RSA = "QmedTaZXmULqwspJXz44SsPZyTNKxhnnFvYRajfH7MGhCY"
PEER_ED25519 = "12D3KooWGC6TvWhfapngX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5"


@pytest.mark.parametrize("text", [PEER_RSA, PEER_ED25519])
def test_both_kinds_of_peer_ids_are_accepted(text: str) -> None:
    """RSA ids are sha2-256 multihashes, Ed25519 ids identity multihashes."""
    assert parse_peer_id(text) == text


@pytest.mark.parametrize("value", ["", "Qm", "0OIl", PEER_RSA[:-1], PEER_RSA + "1", 7, None, b"Qm"])
def test_anything_else_is_no_peer_id(value: object) -> None:
    """A subkey of the DHT is input from outside."""
    with pytest.raises(MalformedMessageError, match="base58 peer id"):
        parse_peer_id(value)


@pytest.mark.parametrize(
    ("uid", "key_id"),
    [
        ("bigscience/bloom-560m-petals.0", "104f0a5cd0b897d46330140743b6c2031fffe72c"),
        ("TinyLLama-v0-hf.3", "eb8c2298e9b8a0e1a831e19baa44d5b19aeb8b8b"),
        ("StableBeluga2-hf.0", "4b82cfd4c8b0bc7f30e31d54f9ee37f8eb338277"),
        ("Meta-Llama-3-1-8B-Instruct-hf.0", "64c1248f96845732626d19f14ddca90b8cf50262"),
        ("_petals.models", "0a63ed21831f3f7d24f07949cea69a94476b4faf"),
    ],
)
def test_key_ids_in_the_dht_are_those_of_petals(uid: str, key_id: str) -> None:
    """A key's id is the SHA-1 of its msgpack form (PETALS_PROTOCOL §1.3)."""
    assert hashlib.sha1(pack(uid)).hexdigest() == key_id


@pytest.mark.parametrize(
    ("source", "model_type", "prefix"),
    [
        ("bigscience/bloom-560m", "bloom", "bigscience/bloom-560m-petals"),
        ("bigscience/bloom-petals", "bloom", "bigscience/bloom-petals"),
        ("petals-team/StableBeluga2", "llama", "StableBeluga2-hf"),
        ("meta-llama/Llama-2-70b-chat-hf", "llama", "Llama-2-70b-chat-hf"),
        (
            "meta-llama/Meta-Llama-3.1-8B-Instruct",
            "llama",
            "Meta-Llama-3-1-8B-Instruct-hf",
        ),
        ("tiiuae/falcon-180B-chat", "falcon", "falcon-180B-chat"),
        (
            "mistralai/Mixtral-8x7B-Instruct-v0.1",
            "mixtral",
            "mistralai/Mixtral-8x7B-Instruct-v0-1",
        ),
    ],
)
def test_dht_prefix_of_a_repository_follows_petals(
    source: str, model_type: str, prefix: str
) -> None:
    """Servers and clients that name the same repository must meet under one prefix."""
    assert derive_dht_prefix(source, model_type) == prefix


def test_dht_prefix_of_a_directory_is_its_name_without_dots(tmp_path: Path) -> None:
    """Petals asks for a prefix there; we take the directory's own name."""
    directory = tmp_path / "my model.v2"
    directory.mkdir()

    assert derive_dht_prefix(str(directory), "llama") == "my-model-v2"


@pytest.mark.parametrize("text", ["", "a.b", "a b", "a\nb", "x" * 201])
def test_dht_prefix_with_a_dot_or_space_is_refused(text: str) -> None:
    """Dots and spaces separate uids, so a prefix cannot hold them."""
    with pytest.raises(MalformedMessageError, match="DHT prefix"):
        check_dht_prefix(text)


@pytest.mark.parametrize("uid", ["", "m", "m.", "m.-1", "m.01", "m.1x", ".1", "a.b.1", "m.10000"])
def test_uid_that_is_not_prefix_and_index_is_refused(uid: str) -> None:
    """Only `prefix.index` with a plain decimal index is a uid."""
    with pytest.raises(MalformedMessageError):
        parse_uid(uid)


@given(st.text("abcXYZ-_/0123456789", min_size=1, max_size=30), st.integers(0, MAX_BLOCKS - 1))
def test_uid_round_trip(prefix: str, index: int) -> None:
    """Parsing what we write gives what we wrote."""
    assert parse_uid(make_uid(prefix, index)) == (prefix, index)


@given(st.integers(0, 200), st.integers(1, 100))
def test_chain_round_trip(start: int, length: int) -> None:
    """A chain is its uids joined with one space, in order."""
    chain = BlockChain("m", BlockRange(start, start + length))

    assert BlockChain.parse(str(chain)) == chain


@pytest.mark.parametrize(
    "text", ["", "m.0  m.1", "m.0 m.2", "m.1 m.0", "m.0 n.1", "m.0 m.1 ", "m.1024"]
)
def test_chain_with_a_gap_or_two_models_is_refused(text: str) -> None:
    """The blocks of a chain follow each other in one model."""
    with pytest.raises(MalformedMessageError):
        BlockChain.parse(text)


def test_chain_of_far_too_many_uids_is_refused() -> None:
    """The first message of a stream must not cost us a large list."""
    with pytest.raises(MalformedMessageError, match="at most"):
        BlockChain.parse(" ".join(f"m.{i}" for i in range(MAX_BLOCKS + 1)))


@pytest.mark.parametrize("text", ["", "3", "3:3", "4:2", "a:b", "-1:4", "0:2000", "0:4:8"])
def test_block_range_of_an_option_is_checked(text: str) -> None:
    """`--blocks` takes START:END, not empty and in order."""
    with pytest.raises(MalformedMessageError, match="START:END"):
        BlockRange.parse(text)


def test_block_range_is_half_open() -> None:
    """`[start, end)` holds its start and not its end."""
    blocks = BlockRange.parse(" 2:5 ")

    assert (2 in blocks, 5 in blocks, len(blocks)) == (True, False, 3)
    assert blocks.covers(BlockRange(3, 5))
    assert not blocks.covers(BlockRange(3, 6))
