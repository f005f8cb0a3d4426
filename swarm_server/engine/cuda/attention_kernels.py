"""Attention over pages in Triton, and putting keys and values there.

Pages of one block are [num_pages, page_size, 2 * num_kv_heads, head_dim], keys before values, each
page contiguous; pages may lie apart. Pointers and strides only: `attention.py` has the shapes.
Source: the split over the sequence is Flash-Decoding (Dao et al., 2023).
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# ruff: noqa: N803, PLR0913  # a kernel's parameters are pointers, strides and constants of its build

import triton  # type: ignore[import-not-found]
import triton.language as tl  # type: ignore[import-not-found]

from swarm_server.engine.cuda.early_start import wait_for_others

UNSEEN = tl.constexpr(-1e30)  # finite: the difference of two stays a number


@triton.jit
def rotate_and_store_kernel(
    heads,  # [num_rows, num_heads + 2 * num_kv_heads, head_dim]; queries are rotated in place
    cos,  # [num_rows, head_dim / 2]
    sin,
    norm_weight,  # [num_heads + num_kv_heads, head_dim]
    norm_eps,
    positions,  # int32 [num_rows]; a row below zero is skipped
    table_starts,
    page_ids,
    pages,
    page_stride,
    NUM_HEADS: tl.constexpr,
    NUM_KV_HEADS: tl.constexpr,
    HALF: tl.constexpr,
    PAGE_SIZE: tl.constexpr,
    HAS_NORM: tl.constexpr,
):
    """One head of one row: norm and rotate queries and keys, leave keys and values in the page."""
    row, head = tl.program_id(0), tl.program_id(1)
    position = tl.load(positions + row)
    if position >= 0:
        lane = tl.arange(0, HALF)
        source = heads + (row * (NUM_HEADS + 2 * NUM_KV_HEADS) + head) * 2 * HALF
        low = tl.load(source + lane).to(tl.float32)
        high = tl.load(source + HALF + lane).to(tl.float32)
        if head < NUM_HEADS + NUM_KV_HEADS:
            if HAS_NORM:
                squares = tl.sum(low * low, 0) + tl.sum(high * high, 0)
                inverse = tl.rsqrt(squares / (2 * HALF) + norm_eps)
                weight = norm_weight + head * 2 * HALF
                low = low * inverse * tl.load(weight + lane).to(tl.float32)
                high = high * inverse * tl.load(weight + HALF + lane).to(tl.float32)
            c, s = tl.load(cos + row * HALF + lane), tl.load(sin + row * HALF + lane)
            low, high = low * c - high * s, high * c + low * s
        if head < NUM_HEADS:
            target = source
        else:
            page = tl.load(page_ids + tl.load(table_starts + row) + position // PAGE_SIZE)
            slot = (position % PAGE_SIZE) * 2 * NUM_KV_HEADS + head - NUM_HEADS
            target = pages + page.to(tl.int64) * page_stride + slot * 2 * HALF
        tl.store(target + lane, low.to(target.dtype.element_ty))
        tl.store(target + HALF + lane, high.to(target.dtype.element_ty))


@triton.jit
def take_in(scores, visible, values, best, total, sums):
    """Take tokens into a running softmax; return its state.

    `scores` [QUERIES, num_tokens] of those that are visible, `values` [num_tokens, HEAD_DIM]. The
    state is float32: `best` and `total` [QUERIES], `sums` [QUERIES, HEAD_DIM].
    """
    scores = tl.where(visible, scores, UNSEEN)
    new_best = tl.maximum(best, tl.max(scores, 1))
    keep = tl.exp(best - new_best)
    weights = tl.where(visible, tl.exp(scores - new_best[:, None]), 0.0)
    added = tl.dot(weights.to(values.dtype), values, input_precision="ieee")
    return new_best, total * keep + tl.sum(weights, 1), sums * keep[:, None] + added


@triton.jit
def _attend_page(
    query,  # [QUERIES, HEAD_DIM]
    visible,  # bool [QUERIES or 1, PAGE_SIZE]
    written,  # bool [PAGE_SIZE]: the rest of a page may be anything, even not a number
    keys,  # pointer to the first key of the page, of one KV head
    scale,
    best,  # the state of softmax, as `take_in` has it
    total,
    sums,
    NUM_KV_HEADS: tl.constexpr,
):
    """Take one page into a running softmax."""
    token, lane = tl.arange(0, written.shape[0]), tl.arange(0, query.shape[1])
    values = NUM_KV_HEADS * query.shape[1]  # from a key to its value
    at = token[:, None] * (2 * values) + lane[None, :]
    key = tl.load(keys + at, mask=written[:, None], other=0.0)
    scores = tl.dot(query, tl.trans(key), input_precision="ieee") * scale
    value = tl.load(keys + values + at, mask=written[:, None], other=0.0)
    return take_in(scores, visible, value, best, total, sums)


@triton.jit
def decode_kernel(
    heads,  # as above, rotated
    positions,
    table_starts,
    page_ids,
    pages,
    page_stride,
    scale,
    partial_sums,  # float32 [num_rows, num_heads, num_splits, head_dim]
    partial_bests,  # float32 [num_rows, num_heads, num_splits], as is `partial_totals`
    partial_totals,
    NUM_KV_HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    QUERIES: tl.constexpr,  # GROUP, filled up to what a matrix product takes
    HEAD_DIM: tl.constexpr,
    PAGE_SIZE: tl.constexpr,
    NUM_SPLITS: tl.constexpr,
):
    """The heads of one KV head of one row over one part of its pages."""
    row, kv_head, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    length = tl.load(positions + row) + 1
    table = page_ids + tl.load(table_starts + row)
    num_pages, share = tl.cdiv(length, PAGE_SIZE), tl.cdiv(length, PAGE_SIZE * NUM_SPLITS)
    member, lane = tl.arange(0, QUERIES), tl.arange(0, HEAD_DIM)
    head = kv_head * GROUP + member
    at = (row * (GROUP + 2) * NUM_KV_HEADS + head[:, None]) * HEAD_DIM + lane[None, :]
    query = tl.load(heads + at, mask=(member < GROUP)[:, None], other=0.0)
    best = tl.full([QUERIES], UNSEEN, tl.float32)
    total = tl.zeros([QUERIES], tl.float32)
    sums = tl.zeros([QUERIES, HEAD_DIM], tl.float32)
    for index in range(split * share, tl.minimum((split + 1) * share, num_pages)):
        page = tl.load(table + index).to(tl.int64)
        keys = pages + page * page_stride + kv_head * HEAD_DIM
        seen = index * PAGE_SIZE + tl.arange(0, PAGE_SIZE) < length
        best, total, sums = _attend_page(
            query, seen[None, :], seen, keys, scale, best, total, sums, NUM_KV_HEADS
        )
    part = (row * GROUP * NUM_KV_HEADS + head) * NUM_SPLITS + split
    tl.store(partial_bests + part, best, mask=member < GROUP)
    tl.store(partial_totals + part, total, mask=member < GROUP)
    at = part[:, None] * HEAD_DIM + lane[None, :]
    tl.store(partial_sums + at, sums, mask=(member < GROUP)[:, None])


@triton.jit
def combine_kernel(
    partial_sums,
    partial_bests,
    partial_totals,
    outputs,  # [num_rows, num_heads, head_dim]
    HEAD_DIM: tl.constexpr,
    NUM_SPLITS: tl.constexpr,
    EARLY: tl.constexpr,
):
    """Join the parts of one head of one row. A row that saw nothing gets zeros."""
    wait_for_others(EARLY)
    head = tl.program_id(0)
    split, lane = tl.arange(0, NUM_SPLITS), tl.arange(0, HEAD_DIM)
    part = head * NUM_SPLITS + split
    bests = tl.load(partial_bests + part)
    weights = tl.exp(bests - tl.max(bests, 0))
    total = tl.sum(weights * tl.load(partial_totals + part), 0)
    sums = tl.load(partial_sums + part[:, None] * HEAD_DIM + lane[None, :])
    output = tl.sum(sums * weights[:, None], 0) / tl.where(total > 0, total, 1.0)
    tl.store(outputs + head * HEAD_DIM + lane, output.to(outputs.dtype.element_ty))


@triton.jit
def chunk_kernel(
    heads,
    tiles,  # int32 [num_tiles, 4]: first row, number of rows, position of the first, table start
    page_ids,
    pages,
    page_stride,
    scale,
    outputs,
    NUM_KV_HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    GROUP_SLOTS: tl.constexpr,  # GROUP, filled up to a power of two
    TILE: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PAGE_SIZE: tl.constexpr,
):
    """The heads of one KV head of up to TILE rows of one sequence over all its pages."""
    tile, kv_head = tl.program_id(0), tl.program_id(1)
    first_row = tl.load(tiles + tile * 4)
    num_rows = tl.load(tiles + tile * 4 + 1)
    position = tl.load(tiles + tile * 4 + 2)
    table = page_ids + tl.load(tiles + tile * 4 + 3)
    query_index, lane = tl.arange(0, TILE * GROUP_SLOTS), tl.arange(0, HEAD_DIM)
    member, token = query_index % GROUP_SLOTS, query_index // GROUP_SLOTS
    is_query = ((member < GROUP) & (token < num_rows))[:, None]
    head = kv_head * GROUP + member
    row = first_row + token
    at = (row * (GROUP + 2) * NUM_KV_HEADS + head)[:, None] * HEAD_DIM + lane[None, :]
    query = tl.load(heads + at, mask=is_query, other=0.0)
    best = tl.full([TILE * GROUP_SLOTS], UNSEEN, tl.float32)
    total = tl.zeros([TILE * GROUP_SLOTS], tl.float32)
    sums = tl.zeros([TILE * GROUP_SLOTS, HEAD_DIM], tl.float32)
    length = position + num_rows
    for index in range(tl.cdiv(length, PAGE_SIZE)):
        page = tl.load(table + index).to(tl.int64)
        keys = pages + page * page_stride + kv_head * HEAD_DIM
        key_position = index * PAGE_SIZE + tl.arange(0, PAGE_SIZE)
        visible = is_query & (key_position[None, :] <= (position + token)[:, None])
        written = key_position < length
        best, total, sums = _attend_page(
            query, visible, written, keys, scale, best, total, sums, NUM_KV_HEADS
        )
    output = sums / tl.where(total > 0, total, 1.0)[:, None]
    at = (row * GROUP * NUM_KV_HEADS + head)[:, None] * HEAD_DIM + lane[None, :]
    tl.store(outputs + at, output.to(outputs.dtype.element_ty), mask=is_query)
