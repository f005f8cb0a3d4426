"""Steps captured as CUDA graphs: one launch for all kernels of a step."""

from collections.abc import Callable
from functools import partial
from typing import Final, TypeAlias

import torch
from torch import Tensor

from swarm_protocol.identifiers import BlockRange
from swarm_server.engine.batch import Begun
from swarm_server.engine.cuda.attention import ChunkAttention, DecodeAttention, RowsAttention
from swarm_server.engine.cuda.buckets import LONE_ROW, Bucket
from swarm_server.engine.cuda.card_turns import StepInTurn, turns_on
from swarm_server.engine.cuda.fused_span import FusedSpan
from swarm_server.engine.cuda.lone_attention import LoneAttention
from swarm_server.engine.cuda.lone_inputs import LoneInputs
from swarm_server.engine.cuda.step_inputs import StepInputs
from swarm_server.engine.cuda.step_numbers import StepNumbers
from swarm_server.engine.segments import Segment

_Key: TypeAlias = tuple[BlockRange, Bucket]

_MAX_GRAPHS: Final = 128


class StepGraphs:
    """Graphs of some ranges of blocks and buckets. They share inputs, so one runs at a time."""

    def __init__(self, span: FusedSpan) -> None:
        self._span = span
        self._inputs = StepInputs(span.hidden_size, dtype=span.dtype, device=span.device)
        self._lone_inputs = LoneInputs(self._inputs)
        self._graphs: dict[_Key, torch.cuda.CUDAGraph] = {}
        self._attentions: dict[Bucket, RowsAttention] = {}
        self._pool = torch.cuda.graph_pool_handle()
        self._turns = turns_on(span.device)

    def has(self, blocks: BlockRange, bucket: Bucket) -> bool:
        """Whether `prepare` may be called with these."""
        return (blocks, bucket) in self._graphs

    def capture(self, blocks: BlockRange, bucket: Bucket) -> bool:
        """Have a graph for these; False when there are too many graphs already."""
        key = (blocks, bucket)
        if key not in self._graphs and len(self._graphs) < _MAX_GRAPHS:
            self._graphs[key] = self._capture(lambda: self._step(blocks, bucket))
        return key in self._graphs

    def prepare(
        self, blocks: BlockRange, bucket: Bucket, hidden: Tensor, numbers: StepNumbers
    ) -> Callable[[], Begun[Tensor]]:
        """Stage a step whose graph is captured; at most one is under way, or staged before.

        What is returned starts it when the one before has ended. Its outcome is [num_rows,
        hidden_size] on the CPU; any thread may wait for it. Where other servers use the card, it
        runs when it is this one's turn.
        """
        send = partial(self._inputs.send, self._inputs.stage(hidden, numbers, bucket))
        return partial(self._start, self._graphs[blocks, bucket], send, len(hidden))

    def prepare_lone(
        self, blocks: BlockRange, hidden: Tensor, segment: Segment
    ) -> Callable[[], Begun[Tensor]]:
        """Do the same for one row [1, hidden_size], with the graph of `LONE_ROW`."""
        send = partial(self._lone_inputs.write, hidden, segment.position, segment.tables[0])
        return partial(self._start, self._graphs[blocks, LONE_ROW], send, 1)

    def _start(
        self, graph: torch.cuda.CUDAGraph, send: Callable[[], None], num_rows: int
    ) -> Begun[Tensor]:
        @torch.inference_mode()
        def launch() -> Begun[Tensor]:
            send()
            graph.replay()
            return self._inputs.receive(num_rows)

        if self._turns is None:
            return launch()
        step = StepInTurn(self._turns, launch)
        return Begun(step.finish, step.is_done)

    def _capture(self, step: Callable[[], None]) -> torch.cuda.CUDAGraph:
        self._inputs.clear()  # the run before the capture, which builds kernels, stores nothing
        self._lone_inputs.clear()
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            step()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            step()
        return graph

    def _step(self, blocks: BlockRange, bucket: Bucket) -> None:
        inputs, num_rows = self._inputs, bucket.num_rows
        if bucket == LONE_ROW:
            self._lone_inputs.fetch()
        if bucket not in self._attentions:
            self._attentions[bucket] = self._attention(bucket)
        rows = self._span.rows(
            inputs.positions[:num_rows], inputs.table_starts[:num_rows], inputs.page_ids
        )
        self._span.run(blocks, inputs.hidden[:num_rows], rows, self._attentions[bucket])

    def _attention(self, bucket: Bucket) -> RowsAttention:
        if bucket.num_tiles:
            return ChunkAttention(self._inputs.tiles[: bucket.num_tiles])
        if bucket == LONE_ROW and LoneAttention.covers(self._span.heads):
            return LoneAttention(self._span.heads, self._span.device)
        return DecodeAttention(bucket.num_rows, self._span.heads, self._span.device)
