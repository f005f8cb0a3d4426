"""Attention over pages on a GPU: of single rows, split over the sequence, and of chunks."""

from dataclasses import dataclass
from typing import Final, Protocol

import torch
from torch import Tensor

from swarm_server.engine.cuda.attention_kernels import (
    chunk_kernel,
    combine_kernel,
    decode_kernel,
    rotate_and_store_kernel,
)
from swarm_server.engine.cuda.early_start import early_start

_LEAST_QUERIES: Final = 16
"""Rows that a matrix product of the GPU takes at least."""

_CHUNK_QUERIES: Final = 64
"""Rows of the matrix product in `ChunkAttention`: the heads of a group times the tokens."""

_PROGRAMS: Final = 512
"""How many programs keep a large GPU busy: a decode step is split until there are so many."""

_MAX_SPLITS: Final = 32


@dataclass(frozen=True, slots=True)
class Heads:
    """The heads of a block. `qk_norm` [num_heads + num_kv_heads, head_dim] or None."""

    num_heads: int
    num_kv_heads: int
    head_dim: int
    scale: float
    qk_norm: Tensor | None = None
    qk_norm_eps: float = 0.0

    @property
    def group(self) -> int:
        """Return how many heads share a KV head."""
        return self.num_heads // self.num_kv_heads

    @property
    def query_slots(self) -> int:
        """Return the same, filled up to what a matrix product takes."""
        return max(_LEAST_QUERIES, _next_power_of_2(self.group))


@dataclass(frozen=True, slots=True)
class Rows:
    """Where the rows of a batch stand; int32 on the GPU.

    `positions` [num_rows], below zero for a row that only fills up; `table_starts` [num_rows] says
    where the row's page table begins in `page_ids`. `cos` and `sin`:
    [num_rows, head_dim / 2].
    """

    positions: Tensor
    table_starts: Tensor
    page_ids: Tensor
    cos: Tensor
    sin: Tensor


class RowsAttention(Protocol):
    """Attention of rows, whose keys and values it leaves in their pages."""

    def attend(self, qkv: Tensor, pages: Tensor, rows: Rows, heads: Heads) -> Tensor:
        """Return [num_rows, num_heads * head_dim].

        Args:
            qkv: [num_rows, (num_heads + 2 * num_kv_heads) * head_dim], as the product has made
                them; what it holds then is undefined.
            pages: of this block, [num_pages, page_size, 2 * num_kv_heads, head_dim].
            rows: where they stand.
            heads: of this block.
        """


def rotate_and_store(qkv: Tensor, pages: Tensor, rows: Rows, heads: Heads) -> None:
    """Norm and rotate queries, in place, and keys; put keys and values where `rows` says."""
    grid = (len(rows.positions), heads.num_heads + 2 * heads.num_kv_heads)
    norm = heads.qk_norm
    rotate_and_store_kernel[grid](
        qkv,
        rows.cos,
        rows.sin,
        qkv if norm is None else norm,
        heads.qk_norm_eps,
        rows.positions,
        rows.table_starts,
        rows.page_ids,
        pages,
        pages.stride(0),
        NUM_HEADS=heads.num_heads,
        NUM_KV_HEADS=heads.num_kv_heads,
        HALF=heads.head_dim // 2,
        PAGE_SIZE=pages.shape[1],
        HAS_NORM=norm is not None,
        num_warps=1,
    )


class Parts:
    """What parts of the tokens of each row give; float32, see `decode_kernel`."""

    def __init__(self, num_rows: int, heads: Heads, num_splits: int, device: torch.device) -> None:
        shape = (num_rows, heads.num_heads, num_splits)
        self.sums = torch.empty(*shape, heads.head_dim, device=device)
        self.bests = torch.empty(shape, device=device)
        self.totals = torch.empty(shape, device=device)

    def join(self, qkv: Tensor) -> Tensor:
        """Return the attention of the rows, [num_rows, num_heads * head_dim]; as `qkv`."""
        num_rows, num_heads, num_splits, head_dim = self.sums.shape
        outputs = qkv.new_empty(num_rows, num_heads * head_dim)
        combine_kernel[(num_rows * num_heads,)](
            self.sums,
            self.bests,
            self.totals,
            outputs,
            HEAD_DIM=head_dim,
            NUM_SPLITS=num_splits,
            num_warps=1,
            **early_start(qkv.device),
        )
        return outputs


class DecodeAttention:
    """Every row by itself, its pages shared out among programs. Sizes never change: capturable."""

    def __init__(self, num_rows: int, heads: Heads, device: torch.device) -> None:
        """Make room for the parts of `num_rows` rows."""
        programs = num_rows * heads.num_kv_heads
        wanted = _next_power_of_2(-(-_PROGRAMS // programs))
        self._num_splits = min(wanted, _MAX_SPLITS)
        self._parts = Parts(num_rows, heads, self._num_splits, device)

    def attend(self, qkv: Tensor, pages: Tensor, rows: Rows, heads: Heads) -> Tensor:
        """See `RowsAttention.attend`."""
        rotate_and_store(qkv, pages, rows, heads)
        parts = self._parts
        decode_kernel[len(qkv), heads.num_kv_heads, self._num_splits](
            qkv,
            rows.positions,
            rows.table_starts,
            rows.page_ids,
            pages,
            pages.stride(0),
            heads.scale,
            parts.sums,
            parts.bests,
            parts.totals,
            NUM_KV_HEADS=heads.num_kv_heads,
            GROUP=heads.group,
            QUERIES=heads.query_slots,
            HEAD_DIM=heads.head_dim,
            PAGE_SIZE=pages.shape[1],
            NUM_SPLITS=self._num_splits,
            num_warps=4,
            num_stages=2,
        )
        return parts.join(qkv)


class ChunkAttention:
    """Runs of rows of one sequence together; for batches with chunks of prompts."""

    def __init__(self, tiles: Tensor) -> None:
        """Take the runs, as `cut_tiles` makes them for `tile_rows`, on the GPU."""
        self._tiles = tiles

    @staticmethod
    def tile_rows(heads: Heads) -> int:
        """Return how many rows a run has at most."""
        return max(1, _CHUNK_QUERIES // _next_power_of_2(heads.group))

    def attend(self, qkv: Tensor, pages: Tensor, rows: Rows, heads: Heads) -> Tensor:
        """See `RowsAttention.attend`."""
        rotate_and_store(qkv, pages, rows, heads)
        outputs = qkv.new_empty(len(qkv), heads.num_heads * heads.head_dim)
        chunk_kernel[len(self._tiles), heads.num_kv_heads](
            qkv,
            self._tiles,
            rows.page_ids,
            pages,
            pages.stride(0),
            heads.scale,
            outputs,
            NUM_KV_HEADS=heads.num_kv_heads,
            GROUP=heads.group,
            GROUP_SLOTS=_next_power_of_2(heads.group),
            TILE=self.tile_rows(heads),
            HEAD_DIM=heads.head_dim,
            PAGE_SIZE=pages.shape[1],
            num_warps=4,
            num_stages=2,
        )
        return outputs


def _next_power_of_2(number: int) -> int:
    return 1 << (number - 1).bit_length()
