"""Runs batches on a GPU: most as one CUDA graph, long chunks kernel by kernel."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from swarm_protocol.identifiers import BlockRange
from swarm_server.engine.batch import Begun, RaggedBatch, SpanRunner
from swarm_server.engine.cuda.attention import ChunkAttention, DecodeAttention, RowsAttention
from swarm_server.engine.cuda.buckets import (
    LONE_BUCKETS,
    LONE_ROW,
    TILED_BUCKETS,
    Bucket,
    choose_bucket,
)
from swarm_server.engine.cuda.fused_span import FusedSpan
from swarm_server.engine.cuda.step_graphs import StepGraphs
from swarm_server.engine.cuda.step_numbers import StepNumbers, number_step


class GraphRunner:
    """A `SpanRunner` for one GPU. Batches with adapters or prompts go to another runner.

    An error of the GPU leaves `run` as torch raises it; what the
    batch's rows wrote into their pages is undefined then, other pages are as they were.
    """

    def __init__(self, span: FusedSpan, eager: SpanRunner) -> None:
        self._span = span
        self._eager = eager
        self._graphs = StepGraphs(span)

    @torch.inference_mode()
    def warm_up(self) -> None:
        """Capture the graphs of the whole span, so that no step waits for it."""
        for bucket in (*TILED_BUCKETS[::-1], *LONE_BUCKETS[::-1]):  # smaller ones reuse memory
            self._graphs.capture(self._span.range, bucket)

    @torch.inference_mode()
    def prepare(self, blocks: BlockRange, batch: RaggedBatch) -> Callable[[], Begun[Tensor]]:
        """Stage a batch for a graph that is there already; see `SpanRunner.prepare`."""
        if batch.prompts or batch.adapters:
            return self._eager.prepare(blocks, batch)
        if len(batch.hidden) == 1 and self._graphs.has(blocks, LONE_ROW):
            return self._graphs.prepare_lone(blocks, batch.hidden, batch.segments[0])
        numbers = self._number(batch)
        bucket = choose_bucket(numbers)
        if bucket is not None and self._graphs.has(blocks, bucket):
            return self._graphs.prepare(blocks, bucket, batch.hidden, numbers)
        return partial(Begun, partial(self._run, blocks, bucket, batch.hidden, numbers))

    def run(self, blocks: BlockRange, batch: RaggedBatch) -> Tensor:
        """Return the hidden states after `blocks`; see `SpanRunner.run`."""
        return self.prepare(blocks, batch)().finish()

    def _number(self, batch: RaggedBatch) -> StepNumbers:
        return number_step(batch.segments, ChunkAttention.tile_rows(self._span.heads))

    @torch.inference_mode()
    def _run(
        self, blocks: BlockRange, bucket: Bucket | None, hidden: Tensor, numbers: StepNumbers
    ) -> Tensor:
        """Run a step whose graph must be captured first, or that is too large for one."""
        if bucket is not None and self._graphs.capture(blocks, bucket):
            return self._graphs.prepare(blocks, bucket, hidden, numbers)().finish()
        return self._run_kernels(blocks, hidden, numbers)

    def _run_kernels(self, blocks: BlockRange, hidden: Tensor, numbers: StepNumbers) -> Tensor:
        """Start one kernel after the other; they are long enough to keep the GPU busy."""
        span = self._span
        parts = (numbers.positions, numbers.table_starts, numbers.page_ids, numbers.tiles.ravel())
        sent = torch.from_numpy(np.concatenate(parts)).to(span.device)
        positions, starts, page_ids, tiles = torch.split(sent, [len(part) for part in parts])
        hidden = hidden.to(span.device, span.dtype, copy=True)
        rows = span.rows(positions, starts, page_ids)
        attention: RowsAttention
        if len(tiles):
            attention = ChunkAttention(tiles.view(-1, 4))
        else:
            attention = DecodeAttention(len(hidden), span.heads, span.device)
        span.run(blocks, hidden, rows, attention)
        return hidden.cpu()
