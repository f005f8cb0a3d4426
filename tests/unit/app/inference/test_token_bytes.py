"""Bytes of single tokens."""

from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from app.inference.token_bytes import byte_reader
from app.inference.tokenizer import ModelTokenizer
from tests.harness.tiny_models import byte_tokenizer
from tests.unit.app.inference.sentencepiece import sentencepiece_tokenizer

BYTE_LEVEL = ModelTokenizer(byte_tokenizer())
SPACED = ModelTokenizer(PreTrainedTokenizerFast(tokenizer_object=sentencepiece_tokenizer()))


@given(st.text(max_size=40))
def test_byte_level_tokens_together_are_the_text(text: str) -> None:
    """Also where a character is spread over tokens."""
    data = b"".join(BYTE_LEVEL.token_bytes(each) for each in BYTE_LEVEL.encode(text))

    assert data == text.encode()


def test_sentencepiece_tokens_together_are_the_text_behind_a_space() -> None:
    """Which that family puts in front of every text."""
    text = "the caf\u00e9 \U0001f389"
    data = b"".join(SPACED.token_bytes(each) for each in SPACED.encode(text))

    assert data == b" " + text.encode()


def test_special_and_added_tokens_are_what_they_read() -> None:
    """Even if their characters are in the alphabet of bytes."""
    read = byte_reader('{"type":"ByteLevel"}', frozenset({"<|end|>"}))

    assert [read("<|end|>"), read("\u0120a"), read("\u4eac")] == [
        b"<|end|>",
        b" a",
        b"\xe4\xba\xac",
    ]


def test_an_id_without_a_token_has_no_bytes() -> None:
    """Vocabularies are padded."""
    assert BYTE_LEVEL.token_bytes(10**9) == b""
