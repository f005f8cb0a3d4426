"""Every family: gradients through blocks on two servers are those of transformers."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from swarm_client import AutoDistributedModelForCausalLM
from tests.harness.tiny_families import FAMILIES
from tests.integration.swarm_client.local_model import node_with_servers

NUM_TOKENS = 19  # longer than any window of the tiny models, so that it slides


def gradient(logits: Tensor, embeds: Tensor) -> Tensor:
    """Return the gradient of a loss that every logit has a part in."""
    (of_embeds,) = torch.autograd.grad(logits.log_softmax(-1).square().mean(), embeds)
    return of_embeds


@pytest.mark.parametrize("family", FAMILIES)
def test_the_gradient_of_a_loss_equals_that_of_transformers(family: str, tmp_path: Path) -> None:
    """Of what goes in before the first block, from logits that come out after the last."""
    model = FAMILIES[family](tmp_path / family)
    whole = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    size = (2, NUM_TOKENS, whole.config.hidden_size)
    embeds = torch.randn(size, generator=torch.Generator().manual_seed(1)).requires_grad_()
    distributed = AutoDistributedModelForCausalLM.from_pretrained(
        str(model), torch_dtype="float32", node_factory=node_with_servers(model, ["0:2", "2:4"])
    )

    actual = gradient(distributed(inputs_embeds=embeds).logits, embeds)
    distributed.close()

    expected = gradient(whole(inputs_embeds=embeds, use_cache=False).logits, embeds)
    scale = expected.abs().max()  # float32 sums in another order, relative to the largest
    torch.testing.assert_close(actual / scale, expected / scale, atol=1e-5, rtol=1e-5)
