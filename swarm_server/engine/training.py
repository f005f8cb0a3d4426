"""Runs a span for training: forward over whole sequences, and gradients of its inputs.

Weights are fixed; only hidden states and deep prompts have gradients. Nothing is kept between
calls: a backward call computes the span again. Source: PETALS_PROTOCOL §8. For the compute thread.
"""

from collections.abc import Sequence
from typing import Final, TypeAlias

import torch
from torch import Tensor

from swarm_protocol.identifiers import BlockRange
from swarm_server.engine.attention import ChunkContext
from swarm_server.engine.span import Block, Span, with_prompts

Layers: TypeAlias = Sequence[tuple[Block, ChunkContext]]

_MAX_SAVED_BYTES: Final = 512 * 1024 * 1024
"""What autograd may hold at once. Blocks over it are computed once more, from saved inputs."""

_SAVED_PER_BLOCK: Final = 16
"""Autograd saves about so many tensors of the size of the hidden states in one block."""


class ChunkOnlyKV:
    """Keys and values of a chunk at position 0, which is the whole sequence; kept nowhere."""

    def write(self, _block_index: int, keys_values: Tensor) -> tuple[Tensor, Tensor]:
        """Return the chunk's own; see `engine.decoder_block.KVWriter`. Differentiable."""
        keys, values = keys_values.transpose(1, 2).chunk(2, 1)
        return keys, values


@torch.inference_mode()
def forward(
    span: Span,
    blocks: BlockRange,
    hidden: Tensor,
    prompts: Tensor | None = None,
    *,
    adapter: str | None = None,
) -> Tensor:
    """Return the hidden states after `blocks` of whole sequences.

    Args:
        span: that has the blocks.
        blocks: to run.
        hidden: [batch, num_tokens, hidden_size], num_tokens >= 1, any float dtype; left as it is.
        prompts: [num_blocks, batch or 1, num_prompt_tokens, hidden_size], or None.
        adapter: one of the span's, or None.

    Returns:
        [batch, num_tokens, hidden_size] in the span's dtype, on the CPU.
    """
    layers = span.layers(blocks, 0, hidden.shape[1], adapter)
    return _run(layers, hidden.to(span.device, span.dtype), prompts).cpu()


def backward(
    span: Span,
    blocks: BlockRange,
    hidden: Tensor,
    grad_outputs: Tensor,
    prompts: Tensor | None = None,
    *,
    adapter: str | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Return the gradients of `hidden` and of `prompts`, in the span's dtype, on the CPU.

    Args:
        span: as for `forward`, as are `blocks`, `hidden`, `prompts` and `adapter`.
        blocks: see `span`.
        hidden: see `span`.
        grad_outputs: gradient of the outputs, shaped as they are.
        prompts: see `span`. Its gradient has a row for each row of the batch, even when it was
            given once for all: their sum is the caller's to take.
        adapter: see `span`.
    """
    layers = span.layers(blocks, 0, hidden.shape[1], adapter)
    gradient = grad_outputs.to(span.device, span.dtype)
    if prompts is not None:
        prompts = prompts.to(span.device, span.dtype).expand(-1, hidden.shape[0], -1, -1)
    entries = _entries(layers, hidden.to(span.device, span.dtype), prompts)
    prompt_gradients: list[Tensor] = []
    end = len(layers)
    for start, entry in reversed(entries):
        inputs = [entry.detach().requires_grad_()]
        if prompts is not None:
            inputs.append(prompts[start:end].detach().requires_grad_())
        with torch.enable_grad():
            outputs = _run(layers[start:end], *inputs)
        gradient, *of_prompts = torch.autograd.grad(outputs, inputs, gradient)
        prompt_gradients = of_prompts + prompt_gradients
        end = start
    return gradient.cpu(), torch.cat(prompt_gradients).cpu() if prompt_gradients else None


def _entries(layers: Layers, hidden: Tensor, prompts: Tensor | None) -> list[tuple[int, Tensor]]:
    """Return where autograd begins anew, in order: a layer's index and its inputs."""
    size = max(1, _MAX_SAVED_BYTES // max(1, _SAVED_PER_BLOCK * hidden.nbytes))
    first = (len(layers) - 1) % size + 1  # the short one is first, and costs most
    entries = [(0, hidden)]
    with torch.no_grad():
        for end in range(first, len(layers), size):
            start, entry = entries[-1]
            part = None if prompts is None else prompts[start:end]
            entries.append((end, _run(layers[start:end], entry, part)))
    return entries


def _run(layers: Layers, hidden: Tensor, prompts: Tensor | None = None) -> Tensor:
    for index, (layer, context) in enumerate(layers):
        if prompts is not None:
            hidden = with_prompts(hidden, prompts[index])
        hidden = layer.run(hidden, ChunkOnlyKV(), index, context)
    return hidden
