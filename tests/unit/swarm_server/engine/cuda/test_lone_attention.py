"""Attention of a lone row equals that of rows in general."""

from dataclasses import replace

import pytest
import torch

from tests.unit.swarm_server.engine.cuda.pages import DEVICE, PAGE_SIZE, PagedBlock

from swarm_server.engine.cuda.attention import (  # isort: skip  # the import above may skip all
    DecodeAttention,
    Heads,
    RowsAttention,
)
from swarm_server.engine.cuda.lone_attention import LoneAttention  # isort: skip

SHAPES = [Heads(4, 1, 32, 0.2), Heads(6, 2, 64, 0.25), Heads(3, 3, 128, 0.125)]
LENGTHS = [0, 1, PAGE_SIZE - 1, PAGE_SIZE, 100, 35 * PAGE_SIZE + 3]
"""Tokens before the row: none, within a page, at its end, and more pages than there are parts."""

CLOSE = 1e-5  # float32 sums of some hundred terms near one


def assert_attends_as_others(heads: Heads, length: int, page_size: int = PAGE_SIZE) -> None:
    """Compare outputs, and the pages in which the row's keys and values lie then."""
    blocks = [PagedBlock(heads, [(length, 1)], page_size=page_size) for _ in range(2)]
    device = torch.device(DEVICE)
    attentions: tuple[RowsAttention, ...] = (
        LoneAttention(heads, device),
        DecodeAttention(1, heads, device),
    )

    attended, expected = (
        attention.attend(block.qkv, block.pages, block.rows(), heads)
        for attention, block in zip(attentions, blocks, strict=True)
    )

    torch.testing.assert_close(attended, expected, rtol=0.0, atol=CLOSE)
    pages, expected_pages = (block.pages for block in blocks)
    torch.testing.assert_close(pages, expected_pages, rtol=0.0, atol=CLOSE, equal_nan=True)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("heads", SHAPES)
@pytest.mark.parametrize("is_normed", [False, True])
def test_a_lone_row_attends_as_others_do(heads: Heads, length: int, is_normed: bool) -> None:
    """Rotated and normed, wherever it stands."""
    if is_normed:
        weight = torch.rand(heads.num_heads + heads.num_kv_heads, heads.head_dim) + 0.5
        heads = replace(heads, qk_norm=weight.to(DEVICE), qk_norm_eps=1e-6)

    assert_attends_as_others(heads, length)


def test_large_pages_are_read_in_several_runs() -> None:
    """A program holds no more tokens at once, however many a page has."""
    assert_attends_as_others(SHAPES[0], 300, page_size=128)


def test_a_row_that_fills_up_stores_and_sees_nothing() -> None:
    """A position below zero leaves the pages alone, and its output is zero."""
    heads = SHAPES[0]
    block = PagedBlock(heads, [(30, 1)])
    rows = block.rows()
    rows.positions.fill_(-1)
    before = block.pages.clone()

    attended = LoneAttention(heads, torch.device(DEVICE)).attend(
        block.qkv, block.pages, rows, heads
    )

    torch.testing.assert_close(block.pages, before, equal_nan=True)
    assert not attended.any()


def test_narrow_heads_are_left_to_others() -> None:
    """A matrix product takes no fewer numbers than half of a head of 32."""
    assert LoneAttention.covers(Heads(1, 1, 32, 1.0))
    assert not LoneAttention.covers(Heads(1, 1, 16, 1.0))
