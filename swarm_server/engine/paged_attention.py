"""Attention of a ragged batch over pages: in C where it can, else in torch.

In C keys and values are read where they lie, and a token's outputs are the same bits in a chunk and
in a step of its own: what a lost server had computed is the same when it is computed anew. torch
gathers them, one segment after the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from swarm_server.engine.block_context import BlockAttention, Scoring
from swarm_server.engine.chunk_masks import ChunkMasks
from swarm_server.engine.kernels import (
    AttentionHeads,
    AttentionKernel,
    KernelAttention,
    PagedSegments,
    row_operations,
)
from swarm_server.engine.page_storage import PageStorage
from swarm_server.engine.positions import PositionTables
from swarm_server.engine.segments import Segment
from swarm_server.engine.torch_attention import attend_chunk


class PagedAttention:
    """The attention of one batch, for all blocks that it goes through.

    Keys and values of the batch are stored before any row looks. Slots, tables and masks are made
    once for each layout group.
    """

    def __init__(
        self,
        segments: Sequence[Segment],
        storage: PageStorage,
        tables: PositionTables,
        kernel: AttentionKernel | None,
    ) -> None:
        """Take a batch.

        Args:
            segments: of the batch.
            storage: has the pages that they name.
            tables: of the span.
            kernel: None where it cannot be used.
        """
        self._segments = segments
        self._storage = storage
        self._tables = tables
        self._kernel = kernel
        self._groups: dict[int, _Group] = {}

    def of_block(self, block_index: int) -> BlockAttention:
        """Return the attention of a block; the index counts from the start of the span."""
        number, _ = self._storage.layout.group_of(block_index)
        group = self._groups.get(number)
        if group is None:
            tables = [segment.tables[number] for segment in self._segments]
            page_size = self._storage.layout.page_size
            group = _Group(self._segments, tables, page_size, self._tables, self._kernel)
            self._groups[number] = group
        return _BlockPages(group, self._storage.pages_of(block_index))


@dataclass(frozen=True, slots=True)
class _BlockPages:
    """A `BlockAttention` over the pages of one block."""

    group: "_Group"
    pages: Tensor

    def attend(self, queries: Tensor, keys_values: Tensor, scoring: Scoring) -> Tensor:
        """See `BlockAttention.attend`."""
        self.group.store(self.pages, keys_values)
        return self.group.attend(self.pages, queries, scoring)


class _Group:
    """Where the tokens of a batch are in the pages of one layout group."""

    def __init__(
        self,
        segments: Sequence[Segment],
        tables: Sequence[Sequence[int]],
        page_size: int,
        positions: PositionTables,
        kernel: AttentionKernel | None,
    ) -> None:
        slots = [
            table[position // page_size] * page_size + position % page_size
            for segment, table in zip(segments, tables, strict=True)
            for position in range(segment.position, segment.length)
        ]
        self._slots = torch.tensor(slots, device=positions.device)
        if kernel is not None:
            self._segments: _InC | _InTorch = _InC(segments, tables, kernel, positions)
        else:
            self._segments = _InTorch(segments, tables, page_size, positions)

    def store(self, pages: Tensor, keys_values: Tensor) -> None:
        """Put the keys and values of all tokens where they belong."""
        slots = pages.view(-1, *pages.shape[2:])
        operations = row_operations(keys_values)
        if operations is not None:
            operations.store(keys_values, self._slots, slots)
        else:
            slots.index_copy_(0, self._slots, keys_values)

    def attend(self, pages: Tensor, queries: Tensor, scoring: Scoring) -> Tensor:
        """Return the outputs of all tokens."""
        return self._segments.attend(pages, queries, scoring)


class _InTorch:
    """All segments of a batch, one after the other."""

    def __init__(
        self,
        segments: Sequence[Segment],
        tables: Sequence[Sequence[int]],
        page_size: int,
        positions: PositionTables,
    ) -> None:
        self._chunks = [
            _Chunk(segment, table, page_size, positions)
            for segment, table in zip(segments, tables, strict=True)
        ]

    def attend(self, pages: Tensor, queries: Tensor, scoring: Scoring) -> Tensor:
        """Return the outputs of all tokens."""
        outputs = queries.new_empty(len(queries), queries.shape[1] * queries.shape[2])
        for chunk in self._chunks:
            own = queries[chunk.start : chunk.end]
            outputs[chunk.start : chunk.end] = chunk.attend(pages, own, scoring)
        return outputs


class _Chunk:
    """One segment, its keys and values gathered from their pages."""

    def __init__(
        self, segment: Segment, table: Sequence[int], page_size: int, positions: PositionTables
    ) -> None:
        self.start = segment.start
        self.end = segment.end
        self._page_size = page_size
        self._table = torch.tensor(table, device=positions.device)
        self._masks = ChunkMasks(segment.position, segment.num_tokens, positions)
        # On a CPU in float32, as in C: servers with and without a compiler differ but for the order
        # of sums.
        self._is_exact = positions.device == "cpu"

    def attend(self, pages: Tensor, queries: Tensor, scoring: Scoring) -> Tensor:
        """Return the outputs of the segment's tokens."""
        first, end = self._masks.first_key(scoring.window), self._masks.end
        first_page = first // self._page_size
        before = first_page * self._page_size
        used = self._table[first_page : -(-end // self._page_size)]
        gathered = pages.index_select(0, used).flatten(0, 1)[first - before : end - before]
        keys, values = gathered.transpose(0, 1).unsqueeze(0).chunk(2, 1)
        mask = self._masks.mask(scoring)
        if self._is_exact:
            queries, keys, values = queries.float(), keys.float(), values.float()
            mask = mask.float() if mask is not None and mask.is_floating_point() else mask
        outputs = attend_chunk(queries.unsqueeze(0), keys, values, mask, scale=scoring.scale)[0]
        return outputs.to(pages.dtype)


class _InC:
    """All segments of a batch, at once."""

    def __init__(
        self,
        segments: Sequence[Segment],
        tables: Sequence[Sequence[int]],
        kernel: AttentionKernel,
        positions: PositionTables,
    ) -> None:
        self._kernel = kernel
        self._positions = positions
        self._prepared: dict[Scoring, KernelAttention] = {}
        width = max(len(table) for table in tables)
        padded = [[*table, *[0] * (width - len(table))] for table in tables]
        starts = [0, *[segment.end for segment in segments]]
        firsts = [segment.position for segment in segments]
        self._segments = PagedSegments(
            torch.tensor(padded, dtype=torch.int32),
            torch.tensor(starts, dtype=torch.int32),
            torch.tensor(firsts, dtype=torch.int32),
            max(segment.length for segment in segments),
        )

    def attend(self, pages: Tensor, queries: Tensor, scoring: Scoring) -> Tensor:
        """Return the outputs of all tokens."""
        prepared = self._prepared.get(scoring)
        if prepared is None:
            heads = self._heads(scoring, queries.shape[1], pages.shape[2] // 2, pages.shape[3])
            prepared = self._kernel.prepare(self._segments, heads)
            self._prepared[scoring] = prepared
        return prepared.attend(queries, pages)

    def _heads(
        self, scoring: Scoring, num_heads: int, num_kv_heads: int, head_dim: int
    ) -> AttentionHeads:
        biases = None
        if scoring.alibi is not None:
            length = self._segments.max_length
            biases = self._positions.alibi(scoring.alibi, length).squeeze(1).float()
        return AttentionHeads(
            num_heads, num_kv_heads, head_dim, scoring.scale, scoring.window, biases
        )
