"""Attention of a ragged batch over pages: in C for decode rows where it can, else in torch.

batch       A A A A A A A A A A A A         B   C C
segments    long chunk: torch, gathered     the kernel, each row by itself
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from swarm_server.engine.block_context import BlockAttention, Scoring
from swarm_server.engine.chunk_masks import ChunkMasks
from swarm_server.engine.kernels import (
    DecodeAttention,
    DecodeHeads,
    DecodeKernel,
    DecodeRows,
    row_operations,
)
from swarm_server.engine.page_storage import PageStorage
from swarm_server.engine.positions import PositionTables
from swarm_server.engine.segments import Segment
from swarm_server.engine.torch_attention import attend_chunk

_MAX_DECODE_TOKENS: Final = 8
"""Segments of at most so many tokens are cheaper row by row than gathered."""

_MAX_SCORES: Final = 128 * 256
"""Segments of so many tokens x keys hardly cost more row by row, and come out to the last bit as
their tokens do one by one: what a lost server had computed is the same when it is computed anew."""


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
        kernel: DecodeKernel | None,
    ) -> None:
        """Take a batch.

        Args:
            segments: of the batch.
            storage: has the pages that they name.
            tables: of the span.
            kernel: for decode rows, None where it cannot be used.
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
        kernel: DecodeKernel | None,
    ) -> None:
        self._num_tokens = segments[-1].end
        slots = [
            table[position // page_size] * page_size + position % page_size
            for segment, table in zip(segments, tables, strict=True)
            for position in range(segment.position, segment.length)
        ]
        self._slots = torch.tensor(slots, device=positions.device)
        decodes, chunks = [], []
        for segment, table in zip(segments, tables, strict=True):
            if kernel is not None and _goes_by_row(segment):
                decodes.append((segment, table))
            else:
                chunks.append(_Chunk(segment, table, page_size, positions))
        self._chunks = chunks
        self._decodes = None
        if kernel is not None and decodes:
            self._decodes = _Decodes(decodes, kernel, positions)

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
        if self._decodes is not None and not self._chunks:
            return self._decodes.attend(pages, queries, scoring)
        outputs = queries.new_empty(self._num_tokens, queries.shape[1] * queries.shape[2])
        for chunk in self._chunks:
            own = queries[chunk.start : chunk.end]
            outputs[chunk.start : chunk.end] = chunk.attend(pages, own, scoring)
        if self._decodes is not None:
            rows = self._decodes.rows
            outputs[rows] = self._decodes.attend(pages, queries[rows], scoring)
        return outputs


def _goes_by_row(segment: Segment) -> bool:
    return (
        segment.num_tokens <= _MAX_DECODE_TOKENS
        or segment.num_tokens * segment.length <= _MAX_SCORES
    )


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
        # As decode steps are in C: a token that is computed anew, in a chunk with others after a
        # server was lost, comes out as it did alone but for the order of sums.
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


class _Decodes:
    """All short segments of a batch, row by row in the kernel.

    `rows`: int64 [num_rows], which tokens of the batch they are.
    """

    def __init__(
        self,
        decodes: Sequence[tuple[Segment, Sequence[int]]],
        kernel: DecodeKernel,
        positions: PositionTables,
    ) -> None:
        self._kernel = kernel
        self._positions = positions
        self._prepared: dict[Scoring, DecodeAttention] = {}
        rows, tables, lengths = list[int](), list[list[int]](), list[int]()
        width = max(len(table) for _, table in decodes)
        for segment, table in decodes:
            padded = [*table, *[0] * (width - len(table))]
            rows.extend(range(segment.start, segment.end))
            tables.extend([padded] * segment.num_tokens)
            lengths.extend(range(segment.position + 1, segment.length + 1))
        self.rows = torch.tensor(rows)
        self._tables = torch.tensor(tables, dtype=torch.int32)
        self._lengths = torch.tensor(lengths, dtype=torch.int32)
        self._max_length = max(lengths)

    def attend(self, pages: Tensor, queries: Tensor, scoring: Scoring) -> Tensor:
        """Return the outputs of the rows."""
        prepared = self._prepared.get(scoring)
        if prepared is None:
            heads = self._heads(scoring, queries.shape[1], pages.shape[2] // 2, pages.shape[3])
            prepared = self._kernel.prepare(self._decode_rows(scoring.window), heads)
            self._prepared[scoring] = prepared
        return prepared.attend(queries, pages)

    def _decode_rows(self, window: int | None) -> DecodeRows:
        if window is None:
            first_keys = torch.zeros_like(self._lengths)
        else:
            first_keys = (self._lengths - window).clamp_(min=0)
        return DecodeRows(self._tables, first_keys, self._lengths, self._max_length)

    def _heads(
        self, scoring: Scoring, num_heads: int, num_kv_heads: int, head_dim: int
    ) -> DecodeHeads:
        biases = None
        if scoring.alibi is not None:
            biases = self._positions.alibi(scoring.alibi, self._max_length).squeeze(1).float()
        return DecodeHeads(num_heads, num_kv_heads, head_dim, scoring.scale, biases)
