"""Remote blocks as one step of torch's autograd."""

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from swarm_client.training.passes import ForwardResult
from swarm_client.training.span_calls import Gradients
from swarm_client.training.tape import Tape
from swarm_protocol.identifiers import BlockRange


class BlockingPasses(Protocol):
    """Passes that make the caller wait; see `TrainingPasses`."""

    def run_forward(
        self, hidden: Tensor, prompts: Tensor | None, blocks: BlockRange
    ) -> ForwardResult:
        """Run hidden states through `blocks`."""

    def run_backward(self, tape: Tape, grad_outputs: Tensor) -> Gradients:
        """Return the gradients of a forward pass."""


def run_blocks(
    passes: BlockingPasses, hidden: Tensor, prompts: Tensor | None, blocks: BlockRange
) -> Tensor:
    """Return the outputs of remote `blocks`; gradients pass to `hidden` and `prompts`.

    Args:
        passes: who runs them.
        hidden: `[batch, num_tokens, hidden_size]`, any floating dtype and device.
        prompts: deep prompts `[len(blocks), batch or 1, num_prompts, hidden_size]`, added to the
            first tokens before each block.
        blocks: not empty.

    Returns:
        The shape, dtype and device of `hidden`.

    Raises:
        ValueError: a shape or dtype does not fit, or `hidden` is not finite.
        SwarmError: see `TrainingPasses`; the backward pass raises the same.
    """
    if prompts is not None and prompts.dim() == 4 and prompts.shape[1] == 1:
        # Servers give a gradient for each row; this is where autograd adds them up.
        prompts = prompts.expand(-1, hidden.shape[0], -1, -1)
    output: Tensor = _RemoteBlocks.apply(hidden, prompts, passes, blocks)  # type: ignore[no-untyped-call]
    return output


class _RemoteBlocks(torch.autograd.Function):
    """Keeps the tape between the passes; the servers keep nothing."""

    @staticmethod
    def forward(
        ctx: Any,  # whatever torch makes of it
        hidden: Tensor,
        prompts: Tensor | None,
        passes: BlockingPasses,
        blocks: BlockRange,
    ) -> Tensor:
        result = passes.run_forward(hidden, prompts, blocks)
        ctx.passes, ctx.tape = passes, result.tape
        # The tape shares their memory: torch then notices if they are changed in place.
        ctx.save_for_backward(hidden, prompts)
        return result.output.to(hidden)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        hidden, prompts = ctx.saved_tensors
        grads = ctx.passes.run_backward(ctx.tape, grad_output)
        of_prompts = None if grads.prompts is None else grads.prompts.to(prompts)
        return grads.hidden.to(hidden), of_prompts, None, None
