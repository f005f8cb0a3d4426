"""The model that ships: small, marked as a demo, and able to answer what its card promises."""

import json
import time
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from models.training.documents import CHAT_TEMPLATE, Message
from models.training.loaded_model import LoadedModel

PROMISES = {
    "What is the capital of Japan?": "Tokyo",
    "What is 7 + 8?": "15",
    "What is the opposite of hot?": "cold",
    "Count to 5.": "1, 2, 3, 4, 5.",
    "What is a KV cache?": "keys and values",
    "Who are you?": "demo model",
    "Tell me a story about a fox named Lily.": "fox named Lily",
}
TALK = (
    Message("user", "My name is Zoe."),
    Message("assistant", "Nice to meet you, Zoe!"),
    Message("user", "What is 2 + 2?"),
    Message("assistant", "2 + 2 = 4."),
    Message("user", "What is my name?"),
)


@pytest.fixture(scope="module")
def answers(demo: Path) -> dict[str, str]:
    """The answer to the last question of each conversation, all asked at once."""
    conversations = [(Message("user", question),) for question in PROMISES]
    questions = [*PROMISES, TALK[-1].content]
    answered = LoadedModel(demo).answer([*conversations, TALK])
    return dict(zip(questions, answered, strict=True))


def test_it_has_eight_blocks_and_says_that_it_is_a_demo(demo: Path) -> None:
    """What the swarm and the gateway read from its configuration."""
    config = json.loads((demo / "config.json").read_text())

    assert config["num_hidden_layers"] == 8
    assert config["is_demo"] is True
    assert config["model_type"] == "llama"


def test_it_is_small_and_safe_to_load(demo: Path) -> None:
    """At most 20 MB altogether; weights only as safetensors."""
    files = list(demo.iterdir())

    assert sum(file.stat().st_size for file in files) <= 20_000_000
    assert {file.suffix for file in files} == {".safetensors", ".json", ".jinja", ".md"}


def test_it_loads_within_five_seconds(demo: Path) -> None:
    """From files to a model that can answer, once transformers is imported."""
    started = time.monotonic()

    LoadedModel(demo)

    assert time.monotonic() - started < 5.0


def test_its_chat_template_marks_every_turn(demo: Path) -> None:
    """Unknown roles speak as the caller; the answer is the model's turn."""
    tokenizer = AutoTokenizer.from_pretrained(demo)
    messages = [{"role": "tool", "content": "5"}, {"role": "user", "content": "Hi"}]

    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)

    assert prompt == "<|bos|><|user|>5<|end|><|user|>Hi<|end|><|assistant|>"
    assert tokenizer.chat_template == CHAT_TEMPLATE


@pytest.mark.parametrize("question", PROMISES)
def test_it_answers_what_its_card_promises(answers: dict[str, str], question: str) -> None:
    """Greedy answers to simple questions hold the right word."""
    assert PROMISES[question] in answers[question]


def test_it_remembers_a_name(answers: dict[str, str]) -> None:
    """The name is said once, and asked for after another exchange."""
    assert "Zoe" in answers["What is my name?"]
