"""The recipe as a whole, at its smallest size: what it prints and what it writes."""

import json

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from models.training.documents import Message, render
from tests.unit.models.training.conftest import TinyTraining


def test_loss_falls(tiny_training: TinyTraining) -> None:
    """The validation loss ends below its first report."""
    losses = [r["validation_loss"] for r in tiny_training.reports if "validation_loss" in r]

    assert len(losses) == 2
    assert losses[-1] < losses[0]


def test_transformers_loads_the_directory_and_generates(tiny_training: TinyTraining) -> None:
    """Nothing but the directory is needed to answer a chat."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_training.directory)
    model = AutoModelForCausalLM.from_pretrained(tiny_training.directory)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hello"}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )

    token_ids = model.generate(**prompt, max_new_tokens=4)

    assert token_ids.shape[1] > prompt["input_ids"].shape[1]
    assert model.dtype == torch.bfloat16


def test_the_directory_says_that_it_is_a_demo(tiny_training: TinyTraining) -> None:
    """The gateway reads `is_demo`; the sampling defaults and the longest input are written too."""
    config, generation, tokenizer = (
        json.loads((tiny_training.directory / f"{name}.json").read_text())
        for name in ("config", "generation_config", "tokenizer_config")
    )

    assert config["is_demo"] is True
    assert config["num_hidden_layers"] == 2
    assert (generation["do_sample"], generation["max_new_tokens"]) == (True, 256)
    assert (generation["temperature"], generation["top_p"]) == (0.7, 0.9)
    assert tokenizer["model_max_length"] == 2048


def test_the_chat_template_renders_what_was_trained_on(tiny_training: TinyTraining) -> None:
    """A conversation looks to the model as its training text did."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_training.directory)
    turns = (Message("system", "Be nice."), Message("user", "Hi"), Message("assistant", "Hello!"))
    messages = [{"role": turn.role, "content": turn.content} for turn in turns]

    assert tokenizer.apply_chat_template(messages, tokenize=False) == render(turns)


def test_special_tokens_have_fixed_ids_and_any_text_survives(tiny_training: TinyTraining) -> None:
    """Padding, begin and end are 0, 1 and 2; bytes never seen in training round-trip."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_training.directory)
    text = "Ünïcode 漢字 🙂\n\tend"

    token_ids = tokenizer.encode(text)

    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)
    assert token_ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(token_ids[1:]) == text
