"""Norms, against transformers' and torch's own."""

import pytest
import torch
from torch import Tensor, nn
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from swarm_server.engine.norms import LayerNorm, Norm, OffsetRMSNorm, RMSNorm

EPS = 1e-3


def random(*shape: int, seed: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def with_weight(norm: nn.Module, weight: Tensor) -> nn.Module:
    norm.weight = nn.Parameter(weight, requires_grad=False)
    return norm


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rms_norms_round_where_transformers_does(dtype: torch.dtype) -> None:
    """In bfloat16 the order of rounding shows: the results are the same to the bit."""
    weight = random(24, seed=0, dtype=dtype)
    hidden = random(3, 5, 24, seed=1, dtype=dtype)
    pairs: list[tuple[Norm, nn.Module]] = [
        (RMSNorm(weight, EPS), LlamaRMSNorm(24, EPS)),
        (OffsetRMSNorm(weight, EPS), Gemma3RMSNorm(24, EPS)),
    ]

    for ours, theirs in pairs:
        expected = with_weight(theirs, weight)(hidden)

        torch.testing.assert_close(ours(hidden), expected, atol=1e-6, rtol=0)


def test_a_weight_may_have_a_row_for_each_head() -> None:
    """Which is how queries and keys are normed in one go, each by their own weight."""
    weights = random(3, 8, seed=0, dtype=torch.float32)
    heads = random(2, 4, 3, 8, seed=1, dtype=torch.float32)

    outputs = RMSNorm(weights, EPS)(heads)

    for head in range(3):
        alone = RMSNorm(weights[head], EPS)(heads[:, :, head])
        torch.testing.assert_close(outputs[:, :, head], alone)


def test_a_layer_norm_adds_its_bias() -> None:
    """The weight applies before the bias."""
    weight, bias = random(2, 8, seed=0, dtype=torch.float32)
    hidden = random(4, 8, seed=1, dtype=torch.float32)

    outputs = LayerNorm(weight, bias, EPS)(hidden)

    centred = hidden - hidden.mean(-1, keepdim=True)
    deviation = (centred.square().mean(-1, keepdim=True) + EPS).sqrt()
    torch.testing.assert_close(outputs, centred / deviation * weight + bias)
