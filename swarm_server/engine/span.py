"""A span of blocks that belong to one server, and running a step through them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from swarm_protocol.identifiers import BlockRange
from swarm_server.engine.adaptable_linear import AdapterRows, BlockAdapter
from swarm_server.engine.batch import AdapterRange
from swarm_server.engine.block_context import BlockContext
from swarm_server.engine.chunk_masks import ChunkMasks
from swarm_server.engine.decoder_block import BlockShape
from swarm_server.engine.dense_attention import DenseAttention
from swarm_server.engine.positions import BatchPositions, PositionTables
from swarm_server.kv.session_kv import SessionKV


class Block(Protocol):
    """One transformer layer with its weights."""

    @property
    def window(self) -> int | None:
        """How many tokens a token sees, itself included; None is all before it."""

    def run(self, hidden: Tensor, context: BlockContext) -> Tensor:
        """Return the hidden states after this block, [num_tokens, hidden_size].

        Differentiable with respect to `hidden` where autograd is on and the attention allows it.

        Args:
            hidden: of the batch; not to be changed.
            context: of the batch, with what is this block's of it.
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
    """Consecutive blocks with their weights. For the compute thread only."""

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
        self.tables = PositionTables(shape.head_dim, dtype=dtype, device=device)
        self._layers = tuple(layers)

    @property
    def windows(self) -> list[int | None]:
        """The window of every block, for `KVLayout`."""
        return [layer.window for layer in self._layers]

    def layers(self, blocks: BlockRange) -> Sequence[Block]:
        """Return some of our blocks, in order."""
        return self._layers[blocks.start - self.blocks.start : blocks.end - self.blocks.start]

    def adapter_rows(self, block_index: int, adapters: Sequence[AdapterRange]) -> list[AdapterRows]:
        """Return a block's parts of adapters; its index counts from the start of the model."""
        place = block_index - self.blocks.start
        return [
            AdapterRows(part.start, part.end, self.adapters[part.name][place]) for part in adapters
        ]

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
        batch_size, num_tokens, _ = step.hidden.shape
        hidden = step.hidden.to(self.device, self.dtype)
        if num_tokens == 0:
            return hidden.cpu()
        masks = ChunkMasks(kv.position, num_tokens, self.tables)
        indexes = torch.arange(masks.position, masks.end, device=self.device).repeat(batch_size)
        positions = BatchPositions(indexes, masks.end, self.tables)
        adapters = () if step.adapter is None else (AdapterRange(0, len(indexes), step.adapter),)
        kv.extend(num_tokens)
        for index, layer in enumerate(self.layers(blocks)):
            if step.prompts is not None:
                hidden = with_prompts(hidden, step.prompts[index])
            attention = DenseAttention(kv, index, masks)
            parts = self.adapter_rows(blocks.start + index, adapters)
            context = BlockContext(positions, attention, parts)
            hidden = layer.run(hidden.flatten(0, 1), context).view(hidden.shape)
        kv.advance()
        return hidden.cpu()


def with_prompts(hidden: Tensor, prompts: Tensor) -> Tensor:
    """Return a copy of `hidden` with the prompts of one block added to its first tokens."""
    hidden = hidden.clone()
    hidden[:, : prompts.shape[1]] += prompts.to(hidden)
    return hidden
