"""Attention of a lone row over its pages, in Triton.

Other rows have their queries and keys normed, rotated and stored by a kernel of its own. Those of a
lone row take longer to begin than to run, so here the programs that attend do that as well; and
they read the first keys and values of earlier tokens before the row's own are there.
Source: the split over the sequence is Flash-Decoding (Dao et al., 2023).
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# ruff: noqa: N803, PLR0913  # a kernel's parameters are pointers, strides and constants of its build

from typing import Final

import torch
import triton  # type: ignore[import-not-found]
import triton.language as tl  # type: ignore[import-not-found]
from torch import Tensor

from swarm_server.engine.cuda.attention import Heads, Parts, Rows
from swarm_server.engine.cuda.attention_kernels import UNSEEN, take_in
from swarm_server.engine.cuda.early_start import early_start, wait_for_others

_NUM_SPLITS: Final = 16
"""Parts of a sequence: with 8 KV heads one program for each multiprocessor of an H200."""

_MAX_RUN: Final = 64
"""Tokens that are read at once."""

_LEAST_HALF: Final = 16
"""Numbers that a matrix product of the GPU adds up at least."""


@triton.jit
def _load_run(keys, written, RUN: tl.constexpr, NUM_KV_HEADS: tl.constexpr, HALF: tl.constexpr):
    """Return both halves of a run's keys, [RUN, HALF], and its values, [RUN, 2 * HALF]."""
    token, lane, value_lane = tl.arange(0, RUN), tl.arange(0, HALF), tl.arange(0, 2 * HALF)
    row, written = keys + token[:, None] * (2 * NUM_KV_HEADS * 2 * HALF), written[:, None]
    low = tl.load(row + lane[None, :], mask=written, other=0.0)
    high = tl.load(row + HALF + lane[None, :], mask=written, other=0.0)
    values = row + NUM_KV_HEADS * 2 * HALF + value_lane[None, :]
    return low, high, tl.load(values, mask=written, other=0.0)


@triton.jit
def _run_start(
    pages,
    page_stride,
    page_ids,
    index,
    end,
    PAGE_SIZE: tl.constexpr,
    RUN: tl.constexpr,
    TOKEN: tl.constexpr,
):
    """Return where run `index` begins; anywhere for those from `end` on."""
    page = tl.load(page_ids + index * RUN // PAGE_SIZE, mask=index < end, other=0).to(tl.int64)
    return pages + page * page_stride + index * RUN % PAGE_SIZE * TOKEN


@triton.jit
def _load_rotated(
    heads, at, is_head, cos, sin, norm_weight, norm_eps, HALF: tl.constexpr, HAS_NORM: tl.constexpr
):
    """Return both halves of some heads, [num_heads, HALF], normed and rotated."""
    low = tl.load(heads + at, mask=is_head, other=0.0)
    high = tl.load(heads + at + HALF, mask=is_head, other=0.0)
    dtype = low.dtype
    low, high = low.to(tl.float32), high.to(tl.float32)
    if HAS_NORM:
        squares = tl.sum(low * low, 1) + tl.sum(high * high, 1)
        inverse = tl.rsqrt(squares / (2 * HALF) + norm_eps)[:, None]
        low *= inverse * tl.load(norm_weight + at, mask=is_head, other=0.0).to(tl.float32)
        high *= inverse * tl.load(norm_weight + at + HALF, mask=is_head, other=0.0).to(tl.float32)
    return (low * cos - high * sin).to(dtype), (high * cos + low * sin).to(dtype)


@triton.jit
def _lone_kernel(
    heads,  # [num_heads + 2 * num_kv_heads, head_dim]
    cos,  # [head_dim / 2]
    sin,
    norm_weight,  # [num_heads + num_kv_heads, head_dim]
    norm_eps,
    position,  # int32 [1]; a row below zero stores nothing and sees nothing
    page_ids,
    pages,
    page_stride,
    scale,
    partial_sums,  # as those of `decode_kernel`
    partial_bests,
    partial_totals,
    NUM_KV_HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    QUERIES: tl.constexpr,  # GROUP, filled up to what a matrix product takes
    HALF: tl.constexpr,
    PAGE_SIZE: tl.constexpr,
    RUN: tl.constexpr,  # tokens, of which a page has whole runs
    NUM_SPLITS: tl.constexpr,
    HAS_NORM: tl.constexpr,
    EARLY: tl.constexpr,
):
    """The heads of one KV head over one part of the tokens before; the first has the row, too."""
    kv_head, split = tl.program_id(0), tl.program_id(1)
    token, lane, member = tl.arange(0, RUN), tl.arange(0, HALF), tl.arange(0, QUERIES)
    wide, one, to_value = tl.arange(0, 2 * HALF), tl.arange(0, 1)[:, None], NUM_KV_HEADS * 2 * HALF
    length = tl.load(position)  # without the row itself
    share = tl.cdiv(length, RUN * NUM_SPLITS)
    first, end = split * share, tl.minimum((split + 1) * share, tl.cdiv(length, RUN))
    own_pages = pages + kv_head * 2 * HALF
    run = _run_start(own_pages, page_stride, page_ids, first, end, PAGE_SIZE, RUN, 2 * to_value)
    written = (first * RUN + token < length) & (first < end)
    key_low, key_high, value = _load_run(run, written, RUN, NUM_KV_HEADS, HALF)
    wait_for_others(EARLY)
    c, s = tl.load(cos + lane)[None, :], tl.load(sin + lane)[None, :]
    at = (kv_head * GROUP + member)[:, None] * 2 * HALF + lane[None, :]
    query_low, query_high = _load_rotated(
        heads, at, (member < GROUP)[:, None], c, s, norm_weight, norm_eps, HALF, HAS_NORM
    )
    best = tl.full([QUERIES], UNSEEN, tl.float32)
    total = tl.zeros([QUERIES], tl.float32)
    sums = tl.zeros([QUERIES, 2 * HALF], tl.float32)
    if split == 0 and length >= 0:  # softmax begins with the row's own key, which is kept as well
        own_at = (NUM_KV_HEADS * GROUP + kv_head + one) * 2 * HALF + lane[None, :]
        own_low, own_high = _load_rotated(
            heads, own_at, one == 0, c, s, norm_weight, norm_eps, HALF, HAS_NORM
        )
        own_value = tl.load(heads + (NUM_KV_HEADS * (GROUP + 1) + kv_head) * 2 * HALF + wide)
        page = tl.load(page_ids + length // PAGE_SIZE).to(tl.int64)
        slot = own_pages + page * page_stride + length % PAGE_SIZE * (2 * to_value)
        tl.store(slot + one + lane[None, :], own_low)
        tl.store(slot + one + HALF + lane[None, :], own_high)
        tl.store(slot + to_value + wide, own_value)
        products = query_low.to(tl.float32) * own_low + query_high.to(tl.float32) * own_high
        best, total = tl.sum(products, 1) * scale, total + 1.0
        sums += own_value.to(tl.float32)[None, :]
    for index in range(first, end):
        following = index + 1
        run = _run_start(
            own_pages, page_stride, page_ids, following, end, PAGE_SIZE, RUN, 2 * to_value
        )
        written = (following * RUN + token < length) & (following < end)
        next_low, next_high, next_value = _load_run(run, written, RUN, NUM_KV_HEADS, HALF)
        scores = tl.dot(query_low, tl.trans(key_low), input_precision="ieee")
        scores = tl.dot(query_high, tl.trans(key_high), scores, input_precision="ieee") * scale
        visible = (index * RUN + token < length)[None, :]
        best, total, sums = take_in(scores, visible, value, best, total, sums)
        key_low, key_high, value = next_low, next_high, next_value
    part = (kv_head * GROUP + member) * NUM_SPLITS + split
    tl.store(partial_bests + part, best, mask=member < GROUP)
    tl.store(partial_totals + part, total, mask=member < GROUP)
    sums_at = part[:, None] * 2 * HALF + wide[None, :]
    tl.store(partial_sums + sums_at, sums, mask=(member < GROUP)[:, None])


class LoneAttention:
    """A `RowsAttention` for one row. Sizes never change: capturable."""

    def __init__(self, heads: Heads, device: torch.device) -> None:
        """Make room for the parts of a row whose heads are covered."""
        self._parts = Parts(1, heads, _NUM_SPLITS, device)

    @staticmethod
    def covers(heads: Heads) -> bool:
        """Tell whether heads are wide enough."""
        return heads.head_dim // 2 >= _LEAST_HALF

    def attend(self, qkv: Tensor, pages: Tensor, rows: Rows, heads: Heads) -> Tensor:
        """See `RowsAttention.attend`; `qkv` stays as it is."""
        norm, parts, page_size = heads.qk_norm, self._parts, pages.shape[1]
        _lone_kernel[heads.num_kv_heads, _NUM_SPLITS](
            qkv,
            rows.cos,
            rows.sin,
            qkv if norm is None else norm,
            heads.qk_norm_eps,
            rows.positions,
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
            HALF=heads.head_dim // 2,
            PAGE_SIZE=page_size,
            RUN=min(page_size, _MAX_RUN),
            NUM_SPLITS=_NUM_SPLITS,
            HAS_NORM=norm is not None,
            num_warps=4,
            **early_start(qkv.device),
        )
        return parts.join(qkv)
