"""Runs ragged batches through a span's own blocks, one operation after the other."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from swarm_kernels.product_choice import chosen_product
from swarm_protocol.identifiers import BlockRange
from swarm_server.engine.batch import Begun, RaggedBatch
from swarm_server.engine.block_context import BlockContext
from swarm_server.engine.kernels import load_attention_kernel
from swarm_server.engine.page_storage import PageStorage
from swarm_server.engine.paged_attention import PagedAttention
from swarm_server.engine.positions import BatchPositions
from swarm_server.engine.segments import Segment
from swarm_server.engine.span import Block, Span


class EagerRunner:
    """A `SpanRunner` for every family, dtype and device; the reference for faster ones."""

    def __init__(self, span: Span, storage: PageStorage, *, has_kernel: bool = True) -> None:
        """Take the parts.

        Args:
            span: whose blocks run.
            storage: of its pages.
            has_kernel: whether attention may go through the C kernel, where it can be built.
        """
        self._span = span
        self._storage = storage
        self._kernel = None
        kernel = load_attention_kernel() if has_kernel and span.device == "cpu" else None
        if kernel is not None and span.dtype in kernel.dtypes:
            self._kernel = kernel
        # Of our own products a row comes out as the same bits whatever rows are beside it.
        is_own = span.device == "cpu" and span.dtype == torch.bfloat16
        self._may_leave_out = is_own and chosen_product() is not None

    def prepare(self, blocks: BlockRange, batch: RaggedBatch) -> Callable[[], Begun[Tensor]]:
        """Leave all to `run`: it takes time."""
        return partial(Begun, partial(self.run, blocks, batch))

    @torch.inference_mode()
    def run(self, blocks: BlockRange, batch: RaggedBatch) -> Tensor:
        """Return the hidden states after `blocks`; see `SpanRunner.run`."""
        span = self._span
        hidden = batch.hidden.to(span.device, span.dtype)
        positions = self._positions(batch.segments)
        attention = PagedAttention(batch.segments, self._storage, span.tables, self._kernel)
        for index, layer in enumerate(span.layers(blocks), blocks.start):
            if batch.prompts:
                hidden = _with_prompts(hidden, batch, index - blocks.start)
            context = BlockContext(
                positions,
                attention.of_block(index - span.blocks.start),
                span.adapter_rows(index, batch.adapters),
                self._wanted(batch, layer) if index == blocks.end - 1 else None,
            )
            hidden = layer.run(hidden, context)
        return hidden.cpu()

    def _wanted(self, batch: RaggedBatch, layer: Block) -> Tensor | None:
        """Return the tokens that the last block makes outputs of; None for all.

        What is not finite in a token reaches all behind it through its keys and values, but not
        those beyond a window; and an adapter's products are torch's.
        """
        if self._may_leave_out and layer.window is None and not batch.adapters:
            return batch.wanted
        return None

    def _positions(self, segments: Sequence[Segment]) -> BatchPositions:
        positions = [
            position for segment in segments for position in range(segment.position, segment.length)
        ]
        end = max(segment.length for segment in segments)
        device = self._span.device
        return BatchPositions(torch.tensor(positions, device=device), end, self._span.tables)


def _with_prompts(hidden: Tensor, batch: RaggedBatch, block_index: int) -> Tensor:
    """Return a copy of `hidden` with one block's prompts added to the tokens that have some."""
    hidden = hidden.clone()
    for prompted in batch.prompts:
        start = batch.segments[prompted.segment_index].start
        added = prompted.prompts[block_index]
        hidden[start : start + len(added)] += added.to(hidden)
    return hidden
