"""Runs a span for training: forward over whole sequences, and gradients of its inputs.

Weights are fixed; only hidden states and deep prompts have gradients. Nothing is kept between
calls: a backward call computes the span again. Source: PETALS_PROTOCOL §8. For the compute thread.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from swarm_protocol.identifiers import BlockRange
from swarm_server.engine.batch import AdapterRange
from swarm_server.engine.block_context import BlockContext
from swarm_server.engine.positions import BatchPositions
from swarm_server.engine.span import Span
from swarm_server.engine.whole_sequences import WholeSequences

_MAX_SAVED_BYTES: Final = 512 * 1024 * 1024
"""What autograd may hold at once. Blocks over it are computed twice, from saved inputs."""

_SAVED_PER_BLOCK: Final = 16
"""Autograd saves about so many tensors of the size of the hidden states in one block."""


def _no_pause() -> None:
    """Go on at once."""


@torch.no_grad()  # not inference mode: a caller may go back through what it gets
def forward(
    span: Span,
    blocks: BlockRange,
    hidden: Tensor,
    prompts: Tensor | None = None,
    *,
    adapter: str | None = None,
    pause: Callable[[], None] = _no_pause,
) -> Tensor:
    """Return the hidden states after `blocks` of whole sequences.

    Args:
        span: that has the blocks.
        blocks: to run.
        hidden: [batch, num_tokens, hidden_size], num_tokens >= 1, any float dtype; left as it is.
        prompts: [num_blocks, batch or 1, num_prompt_tokens, hidden_size], or None.
        adapter: one of the span's, or None.
        pause: called before each block; what it raises ends the computation.

    Returns:
        [batch, num_tokens, hidden_size] in the span's dtype, on the CPU.
    """
    layers = _Layers(span, blocks, hidden, prompts, adapter=adapter)
    states = layers.inputs
    for index in range(len(blocks)):
        pause()
        states = layers.run(index, states, layers.prompts_of(index))
    return states.cpu()


def backward(
    span: Span,
    blocks: BlockRange,
    hidden: Tensor,
    grad_outputs: Tensor,
    prompts: Tensor | None = None,
    *,
    adapter: str | None = None,
    pause: Callable[[], None] = _no_pause,
) -> tuple[Tensor, Tensor | None]:
    """Return the gradients of `hidden` and of `prompts`, in the span's dtype, on the CPU.

    The gradient of prompts is [num_blocks, batch, num_prompt_tokens, hidden_size], with a row for
    each row of the batch even when they were given once for all: the sum is the caller's to take.
    Arguments are those of `forward`, and `grad_outputs`, shaped as the outputs are.
    """
    layers = _Layers(span, blocks, hidden, prompts, adapter=adapter)
    gradient = grad_outputs.to(span.device, span.dtype)
    of_prompts: list[Tensor] = []
    for start, end, entry in reversed(_segments(layers, len(blocks), pause)):
        passes = _run_saving(layers, range(start, end), entry, pause)
        while passes:
            pause()
            done = passes.pop()  # with it goes what autograd has saved
            gradient, *prompt_gradient = _gradients(done, gradient)
            of_prompts += prompt_gradient
    return gradient.cpu(), torch.stack(of_prompts[::-1]).cpu() if of_prompts else None


class _Layers:
    """Blocks to run over whole sequences, with what they run on."""

    def __init__(
        self,
        span: Span,
        blocks: BlockRange,
        hidden: Tensor,
        prompts: Tensor | None,
        *,
        adapter: str | None,
    ) -> None:
        self.inputs = hidden.to(span.device, span.dtype)
        batch_size, num_tokens, _ = hidden.shape
        self._span = span
        self._blocks = blocks
        self._layers = span.layers(blocks)
        positions = torch.arange(num_tokens, device=span.device).repeat(batch_size)
        self._positions = BatchPositions(positions, num_tokens, span.tables)
        self._attention = WholeSequences(num_tokens, span.tables)
        self._adapters = [] if adapter is None else [AdapterRange(0, len(positions), adapter)]
        self._prompts = prompts
        if prompts is not None:
            batched = prompts.expand(-1, batch_size, -1, -1)
            self._prompts = batched.to(span.device, span.dtype)

    def prompts_of(self, index: int) -> Tensor | None:
        """Return [batch, num_prompt_tokens, hidden_size], or None."""
        return None if self._prompts is None else self._prompts[index]

    def run(self, index: int, hidden: Tensor, prompts: Tensor | None) -> Tensor:
        """Return the hidden states after the block of this index."""
        if prompts is not None:
            hidden = hidden.clone()
            hidden[:, : prompts.shape[1]] += prompts
        context = BlockContext(
            self._positions,
            self._attention,
            self._span.adapter_rows(self._blocks.start + index, self._adapters),
        )
        return self._layers[index].run(hidden.flatten(0, 1), context).view(hidden.shape)


@dataclass(frozen=True, slots=True)
class _Pass:
    """One block's outputs, and the leaves of autograd that they come from."""

    inputs: list[Tensor]
    outputs: Tensor


def _segments(
    layers: _Layers, num_blocks: int, pause: Callable[[], None]
) -> list[tuple[int, int, Tensor]]:
    """Return ranges of blocks whose saved tensors fit in memory together, and their inputs."""
    saved_bytes = max(1, _SAVED_PER_BLOCK * layers.inputs.nbytes)
    size = max(1, _MAX_SAVED_BYTES // saved_bytes)
    # All but the last are computed twice, so the first is the one that may be short.
    ends = [*range((num_blocks - 1) % size + 1, num_blocks, size), num_blocks]
    segments = []
    start, hidden = 0, layers.inputs
    for end in ends:
        segments.append((start, end, hidden))
        if end < num_blocks:
            for index in range(start, end):
                pause()
                with torch.no_grad():
                    hidden = layers.run(index, hidden, layers.prompts_of(index))
        start = end
    return segments


def _run_saving(
    layers: _Layers, indices: range, hidden: Tensor, pause: Callable[[], None]
) -> list[_Pass]:
    """Run blocks, each in a graph of its own, so that others may compute between them."""
    passes = []
    for index in indices:
        pause()
        leaf, prompts = hidden.detach().requires_grad_(), layers.prompts_of(index)
        inputs = [leaf]
        if prompts is not None:
            prompts = prompts.detach().requires_grad_()
            inputs.append(prompts)
        with torch.enable_grad():
            hidden = layers.run(index, leaf, prompts)
        passes.append(_Pass(inputs, hidden))
    return passes


def _gradients(done: _Pass, of_outputs: Tensor) -> tuple[Tensor, ...]:
    """Return the gradients of the inputs, given that of the outputs.

    It is given as a factor in a sum: to check the shape of a gradient given to it, autograd
    imports sympy, 33 MiB that stay.
    """
    with torch.enable_grad():
        weighted = (done.outputs * of_outputs).sum()
    return torch.autograd.grad(weighted, done.inputs)
