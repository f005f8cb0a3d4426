from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from app.inference.requests import ChatMessage
from app.inference.tokenizer import ModelTokenizer
from swarm_protocol.checkpoint import Checkpoint
from swarm_protocol.errors import CheckpointError
from tests.harness.tiny_models import byte_tokenizer
from tests.unit.app.inference.sentencepiece import sentencepiece_tokenizer


@pytest.fixture
def llama_2() -> ModelTokenizer:
    return ModelTokenizer(PreTrainedTokenizerFast(tokenizer_object=sentencepiece_tokenizer()))


def test_it_is_loaded_from_the_files_of_a_model(tiny_llama: Path) -> None:
    """Text and chat templates come from there."""
    tokenizer = ModelTokenizer.load(Checkpoint.open(str(tiny_llama)))

    ids = tokenizer.encode(tokenizer.render_chat([ChatMessage("user", "\u00e9")]))

    text = "<|bos|><|user|>\u00e9<|end|><|assistant|>"
    assert tokenizer.decoder(keeps_special_tokens=True)(ids) == text
    assert tokenizer.decoder(keeps_special_tokens=False)(ids) == "\u00e9"


def test_a_model_without_tokenizer_is_refused(tmp_path: Path) -> None:
    """By an error that names the model."""
    (tmp_path / "config.json").write_text("{}")

    with pytest.raises(CheckpointError, match="has no tokenizer files"):
        ModelTokenizer.load(Checkpoint.open(str(tmp_path)))


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    """Whatever the libraries make of them."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "tokenizer.json").write_text("{")

    with pytest.raises(CheckpointError, match="cannot be loaded"):
        ModelTokenizer.load(Checkpoint.open(str(tmp_path)))


@given(context=st.text(max_size=9), text=st.text(max_size=9))
def test_text_behind_other_text_reads_the_same(context: str, text: str) -> None:
    """A byte tokenizer encodes the same everywhere."""
    tokenizer = ModelTokenizer(byte_tokenizer())

    assert tokenizer.encode_behind(tokenizer.encode(context), text) == tokenizer.encode(text)


def test_no_space_slips_in_behind_other_text(llama_2: ModelTokenizer) -> None:
    """A tokenizer that puts a space in front of all it encodes is kept from it."""
    decode = llama_2.decoder(keeps_special_tokens=True)
    context = llama_2.encode("a")

    assert decode([*context, *llama_2.encode("ad")]) == "a ad"
    assert decode([*context, *llama_2.encode_behind(context, "ad")]) == "aad"
    assert decode([*context, *llama_2.encode_behind(context, " ad")]) == "a ad"
