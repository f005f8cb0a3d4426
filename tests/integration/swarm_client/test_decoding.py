"""Everything that transformers' `generate` can do, it does over remote blocks, with equal tokens."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    LlamaForCausalLM,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.generation.streamers import BaseStreamer

from swarm_client import DistributedLlamaForCausalLM
from swarm_client.errors import InvalidParametersError, LengthNotGivenError, PaddingError
from tests.integration.swarm_client.local_model import local_model

PROMPT = torch.tensor([[1, 50, 60, 70, 80]])
TWO_PROMPTS = torch.tensor([[1, 9, 30, 44], [1, 200, 7, 90]])
UNEQUAL = torch.tensor([[0, 0, 1, 50, 60], [1, 9, 8, 7, 6], [0, 0, 1, 33, 90], [0, 1, 5, 5, 7]])


@pytest.fixture(scope="module")
def whole(tiny_llama: Path) -> LlamaForCausalLM:
    """The same model in one process, as transformers runs it."""
    return LlamaForCausalLM.from_pretrained(tiny_llama)


@pytest.fixture(scope="module", params=[["0:4"], ["0:2", "2:4"]], ids=["one", "two"])
def model(
    request: pytest.FixtureRequest, tiny_llama: Path
) -> Iterator[DistributedLlamaForCausalLM]:
    """The model over one server, then over two."""
    with local_model(tiny_llama, request.param) as distributed:
        yield distributed


def seeded(model: LlamaForCausalLM, inputs: Tensor, **options: Any) -> Tensor:
    """Generate with the global generator in a known state."""
    torch.manual_seed(11)
    tokens: Tensor = model.generate(inputs, **{"max_new_tokens": 12} | options)
    return tokens


@pytest.mark.parametrize(
    "options",
    [
        {"do_sample": True, "temperature": 0.7},
        {"do_sample": True, "top_k": 8},
        {"do_sample": True, "top_p": 0.8, "top_k": 0},
        {"do_sample": True, "min_p": 0.1, "top_k": 0},
        {"do_sample": True, "repetition_penalty": 1.4, "temperature": 1.3},
        {"do_sample": True, "num_return_sequences": 3},
        {"do_sample": False, "repetition_penalty": 1.7, "no_repeat_ngram_size": 2},
        {"do_sample": False, "use_cache": False},
        {"do_sample": False, "prefill_chunk_size": 2},
        {"do_sample": False, "num_beams": 4},
        {"do_sample": False, "num_beams": 4, "num_return_sequences": 3, "length_penalty": 0.3},
        {"do_sample": False, "num_beams": 3, "early_stopping": True, "eos_token_id": [2, 77, 78]},
        {"do_sample": True, "num_beams": 3, "temperature": 1.2},
        {"do_sample": True, "num_beams": 3, "num_return_sequences": 2, "top_k": 5},
    ],
    ids=str,
)
@pytest.mark.parametrize("inputs", [PROMPT, TWO_PROMPTS, UNEQUAL], ids=["one", "batch", "unequal"])
def test_every_way_of_decoding_equals_transformers(
    model: DistributedLlamaForCausalLM,
    whole: LlamaForCausalLM,
    inputs: Tensor,
    options: dict[str, Any],
) -> None:
    """Also for prompts of unequal length, padded on the left with a token that says so."""
    assert seeded(model, inputs, **options).equal(seeded(whole, inputs, **options))
