"""Attention of a lone row equals that of rows in general."""

from dataclasses import replace

import pytest
import torch

from tests.unit.swarm_server.engine.cuda.pages import DEVICE, PAGE_SIZE, PagedBlock

from swarm_server.engine.cuda.attention import (  # isort: skip  # the import above may skip all
    DecodeAttention,
    Heads,
)
from swarm_server.engine.cuda.lone_attention import LoneAttention  # isort: skip

SHAPES = [Heads(4, 1, 32, 0.2), Heads(6, 2, 64, 0.25), Heads(3, 3, 128, 0.125)]
LENGTHS = [0, 1, PAGE_SIZE - 1, PAGE_SIZE, 100, 35 * PAGE_SIZE + 3]
"""Tokens before the row: none, within a page, at its end, and more pages than there are parts."""

CLOSE = 1e-5  # float32 sums of some hundred terms near one


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("heads", SHAPES)
@pytest.mark.parametrize("is_normed", [False, True])
def test_a_lone_row_attends_as_others_do(heads: Heads, length: int, is_normed: bool) -> None:
    """Rotated and normed, wherever it stands; and its keys and values lie where theirs do."""
    if is_normed:
        weight = torch.rand(heads.num_heads + heads.num_kv_heads, heads.head_dim) + 0.5
        heads = replace(heads, qk_norm=weight.to(DEVICE), qk_norm_eps=1e-6)
    block, other = PagedBlock(heads, [(length, 1)]), PagedBlock(heads, [(length, 1)])
    device = torch.device(DEVICE)

    attended = LoneAttention(heads, device).attend(block.qkv, block.pages, block.rows(), heads)

    expected = DecodeAttention(1, heads, device).attend(other.qkv, other.pages, other.rows(), heads)
    torch.testing.assert_close(attended, expected, rtol=0.0, atol=CLOSE)
    torch.testing.assert_close(block.pages, other.pages, rtol=0.0, atol=CLOSE, equal_nan=True)


def test_large_pages_are_read_in_several_runs() -> None:
    """A program holds no more tokens at once, however many a page has."""
    heads = SHAPES[0]
    block, other = (PagedBlock(heads, [(300, 1)], page_size=128) for _ in range(2))
    device = torch.device(DEVICE)

    attended = LoneAttention(heads, device).attend(block.qkv, block.pages, block.rows(), heads)

    expected = DecodeAttention(1, heads, device).attend(other.qkv, other.pages, other.rows(), heads)
    torch.testing.assert_close(attended, expected, rtol=0.0, atol=CLOSE)
    torch.testing.assert_close(block.pages, other.pages, rtol=0.0, atol=CLOSE, equal_nan=True)


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
