"""A span of blocks that belong to one server, and running a step through them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from swarm_protocol.identifiers import BlockRange
from swarm_server.engine.adaptable_linear import BlockAdapter
from swarm_server.engine.attention import ChunkContext, KVWriter
from swarm_server.engine.chunk_positions import ChunkPositions, PositionTables
from swarm_server.engine.decoder_block import BlockShape
from swarm_server.kv.session_kv import SessionKV


class Block(Protocol):
    """One transformer layer with its weights."""

    def run(self, hidden: Tensor, kv: KVWriter, kv_index: int, context: ChunkContext) -> Tensor:
        """Return the hidden states after this block, [batch, num_tokens, hidden_size].

        Differentiable with respect to `hidden` where autograd is on and `kv` allows it.

        Args:
            hidden: of the chunk; not to be changed.
            kv: where the session's keys and values are.
            kv_index: number of this block there.
            context: of the step, with this block's part of its adapter.
        """


SpanAdapter: TypeAlias = Sequence[BlockAdapter]
"""One adapter's weights for each block of a span, in order."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one step does to a session.

    `hidden` is [batch, num_tokens, hidden_size]. `prompts` [num_blocks, batch or 1,
    num_prompt_tokens, hidden_size] are added to the first tokens of the chunk before each block;
    `hypo_ids` int64 [batch] says which row each row continues. Tensors may be on any device and
    of any float dtype, and stay as they are. `adapter` names one of the span's; None is the base.
    """

    hidden: Tensor
    prompts: Tensor | None = None
    hypo_ids: Tensor | None = None
    adapter: str | None = None


class Span:
    """Consecutive blocks with their weights. `run` is for the compute thread only."""

    def __init__(
        self,
        blocks: BlockRange,
        layers: Sequence[Block],
        shape: BlockShape,
        *,
        dtype: torch.dtype,
        device: str = "cpu",
        adapters: Mapping[str, SpanAdapter] | None = None,
    ) -> None:
        assert len(layers) == len(blocks)
        self.blocks = blocks
        self.shape = shape
        self.dtype = dtype
        self.device = device
        self.adapters = dict(adapters or {})
        self._layers = tuple(layers)
        self._tables = PositionTables(shape.head_dim, dtype=dtype, device=device)

    def new_kv(self, blocks: BlockRange, *, batch_size: int, max_length: int) -> SessionKV:
        """Return an empty KV cache for a session over `blocks`, which are among ours."""
        return SessionKV(
            num_blocks=len(blocks),
            batch_size=batch_size,
            num_kv_heads=self.shape.num_kv_heads,
            head_dim=self.shape.head_dim,
            max_length=max_length,
            dtype=self.dtype,
            device=self.device,
        )

    @torch.inference_mode()
    def run(self, blocks: BlockRange, kv: SessionKV, step: Step) -> Tensor:
        """Return the hidden states after `blocks`, and move the session's position.

        Returns:
            [batch, num_tokens, hidden_size] in the span's dtype, on the CPU.
        """
        if step.hypo_ids is not None:
            kv.reorder(step.hypo_ids)
        hidden = step.hidden.to(self.device, self.dtype)
        num_tokens = hidden.shape[1]
        if num_tokens == 0:
            return hidden.cpu()
        layers = self.layers(blocks, kv.position, num_tokens, step.adapter)
        kv.extend(num_tokens)
        for index, (layer, context) in enumerate(layers):
            if step.prompts is not None:
                hidden = with_prompts(hidden, step.prompts[index])
            hidden = layer.run(hidden, kv, index, context)
        kv.advance()
        return hidden.cpu()

    def layers(
        self, blocks: BlockRange, position: int, num_tokens: int, adapter: str | None
    ) -> list[tuple[Block, ChunkContext]]:
        """Return some of our blocks, each with its context for `num_tokens` from `position` on.

        `adapter` is one of `adapters`, or None for the base.
        """
        context = ChunkContext(ChunkPositions(position, num_tokens, self._tables))
        places = range(blocks.start - self.blocks.start, blocks.end - self.blocks.start)
        if adapter is None:
            return [(self._layers[place], context) for place in places]
        parts = self.adapters[adapter]
        return [(self._layers[place], replace(context, adapter=parts[place])) for place in places]


def with_prompts(hidden: Tensor, prompts: Tensor) -> Tensor:
    """Return a copy of `hidden` with the prompts of one block added to its first tokens."""
    hidden = hidden.clone()
    hidden[:, : prompts.shape[1]] += prompts.to(hidden)
    return hidden
