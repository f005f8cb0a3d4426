"""Forward and backward through remote blocks with an adapter, outside sessions."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from tests.harness.lora_adapters import merged_model
from tests.integration.adapters.adapted_swarm import PROMPTS, adapted_swarm, save_two_adapters


def local_pass(model: PreTrainedModel, hidden: Tensor, grads: Tensor) -> tuple[Tensor, Tensor]:
    """Return the blocks' outputs and the gradient of their inputs."""
    model.model.norm = torch.nn.Identity()
    inputs = hidden.clone().requires_grad_()
    outputs = model.model(inputs_embeds=inputs, use_cache=False).last_hidden_state
    (grad_inputs,) = torch.autograd.grad(outputs, inputs, grads)
    return outputs.detach(), grad_inputs


@pytest.mark.parametrize("name", ["some", "all"])
async def test_outputs_and_gradients_equal_those_of_merged_weights(
    name: str, tiny_llama: Path, tmp_path: Path
) -> None:
    """Gradients flow through the blocks' weights and through the adapter's."""
    adapters = save_two_adapters(tmp_path, tiny_llama)
    merged = merged_model(tiny_llama, tmp_path / name)

    async with adapted_swarm(tiny_llama, adapters) as swarm:
        hidden = swarm.parts.embed(PROMPTS).detach()
        grads = torch.randn(hidden.shape, generator=torch.Generator().manual_seed(0))
        result = await swarm.remotes[name].run_forward(hidden)
        gradients = await swarm.remotes[name].run_backward(result.tape, grads)

    outputs, grad_inputs = local_pass(merged, hidden, grads)
    torch.testing.assert_close(result.output, outputs, atol=1e-4, rtol=0)
    # Gradients of these weights are in the thousands: float32 leaves them five digits.
    atol = 1e-5 * float(grad_inputs.abs().max())
    torch.testing.assert_close(gradients.hidden, grad_inputs, atol=atol, rtol=0)
