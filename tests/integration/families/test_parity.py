"""Every family: local parts and blocks on two servers give what transformers gives."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from swarm_client import AutoDistributedModelForCausalLM
from swarm_client.models.causal_lm import DistributedCausalLM
from tests.harness.tiny_families import FAMILIES
from tests.integration.swarm_client.local_model import node_with_servers

PROMPTS = torch.randint(6, 262, (2, 19), generator=torch.Generator().manual_seed(1))
"""Longer than any window of the tiny models, so that it slides."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The same weights on two servers and in one process."""

    distributed: DistributedCausalLM
    whole: PreTrainedModel

    def expected_logits(self) -> Tensor:
        with torch.no_grad():
            logits: Tensor = self.whole(PROMPTS).logits
        return logits

    def logits_in_steps(self, *lengths: int) -> Tensor:
        """Feed the prompts in one session, in pieces of these lengths."""
        with torch.no_grad(), self.distributed.inference_session(PROMPTS.shape[1], len(PROMPTS)):
            pieces = [
                self.distributed(ids).logits for ids in torch.split(PROMPTS, list(lengths), 1)
            ]
        return torch.cat(pieces, dim=1)


@pytest.fixture(scope="module", params=FAMILIES)
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    """Of each kind of model; the first block of the second server has index 2, not 0."""
    model = FAMILIES[request.param](tmp_path_factory.mktemp("families") / request.param)
    distributed = AutoDistributedModelForCausalLM.from_pretrained(
        str(model), torch_dtype="float32", node_factory=node_with_servers(model, ["0:2", "2:4"])
    )
    yield Pair(distributed, AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval())
    distributed.close()


def assert_same_logits(actual: Tensor, expected: Tensor) -> None:
    """float32 sums in another order than transformers'."""
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=0)


def test_logits_of_a_prefill_in_one_piece_equal_transformers(pair: Pair) -> None:
    """Of every token of a batch."""
    assert_same_logits(pair.logits_in_steps(19), pair.expected_logits())


def test_logits_of_a_prefill_in_chunks_equal_transformers(pair: Pair) -> None:
    """Their edges are inside and outside of the windows."""
    assert_same_logits(pair.logits_in_steps(3, 8, 1, 7), pair.expected_logits())


def test_logits_token_by_token_equal_transformers(pair: Pair) -> None:
    """As while decoding."""
    assert_same_logits(pair.logits_in_steps(*[1] * 19), pair.expected_logits())


def test_logits_outside_a_session_equal_transformers(pair: Pair) -> None:
    """One pass through the blocks that leaves no cache behind."""
    with torch.no_grad():
        logits = pair.distributed(PROMPTS).logits

    assert_same_logits(logits, pair.expected_logits())


def test_greedy_tokens_equal_transformers(pair: Pair) -> None:
    """Of a batch, until both are long or at their end."""
    options: dict[str, Any] = {"max_new_tokens": 16, "do_sample": False}

    tokens = pair.distributed.generate(PROMPTS, **options)

    mask = torch.ones_like(PROMPTS)
    assert tokens.equal(pair.whole.generate(PROMPTS, attention_mask=mask, **options))
