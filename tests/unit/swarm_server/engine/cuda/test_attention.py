"""The GPU's attention over pages equals plain attention in float32."""

import pytest
import torch

from tests.unit.swarm_server.engine.cuda.pages import DEVICE, PagedBlock

from swarm_server.engine.cuda.attention import (  # isort: skip  # the import above may skip all
    ChunkAttention,
    DecodeAttention,
    Heads,
    rotate_and_store,
)

SHAPES = [Heads(4, 1, 32, 0.2), Heads(6, 2, 16, 0.25), Heads(3, 3, 64, 0.125)]
CLOSE = 1e-5  # float32 sums of some hundred terms near one


@pytest.mark.parametrize("heads", SHAPES)
def test_rows_of_any_length_attend_to_their_own_pages(heads: Heads) -> None:
    """Lengths of one token, of whole pages and of parts; several rows of one sequence."""
    block = PagedBlock(heads, [(0, 1), (15, 1), (16, 1), (100, 1), (40, 3)])
    rows = block.rows(rotated=False)

    attention = DecodeAttention(block.num_rows, heads, torch.device(DEVICE))
    attended = attention.attend(block.qkv, block.pages, rows, heads)

    torch.testing.assert_close(attended, block.attended(), rtol=0.0, atol=CLOSE)


@pytest.mark.parametrize("heads", SHAPES)
def test_chunks_attend_causally(heads: Heads) -> None:
    """Chunks that begin anywhere and are longer than a tile, beside single rows."""
    block = PagedBlock(heads, [(0, 70), (33, 1), (17, 30), (64, 5)])
    rows = block.rows(rotated=False)

    tiles = torch.from_numpy(block.numbers().tiles)
    attended = ChunkAttention(tiles.to(DEVICE)).attend(block.qkv, block.pages, rows, heads)

    torch.testing.assert_close(attended, block.attended(), rtol=0.0, atol=CLOSE)


def test_keys_and_values_lie_in_their_slots_and_nothing_else_is_touched() -> None:
    """A row's keys are rotated by its position, its values are as they were."""
    heads = Heads(2, 1, 16, 0.25)
    block = PagedBlock(heads, [(20, 1), (3, 2)])
    before, given = block.pages.clone(), block.qkv.clone().view(3, 4, 16)
    rows = block.rows()

    rotate_and_store(block.qkv, block.pages, rows, heads)

    for row, (segment, position) in enumerate(((0, 20), (1, 3), (1, 4))):
        page = block.segments[segment].tables[0][position // 16]
        low, high = given[row, :3].chunk(2, -1)
        cos, sin = rows.cos[row], rows.sin[row]
        turned = torch.cat((low * cos - high * sin, high * cos + low * sin), -1)
        stored = block.pages[page, position % 16]
        torch.testing.assert_close(block.qkv.view(3, 4, 16)[row, :2], turned[:2])
        torch.testing.assert_close(stored, torch.stack((turned[2], given[row, 3])))
        block.pages[page, position % 16] = before[page, position % 16]
    torch.testing.assert_close(block.pages, before, equal_nan=True)


def test_queries_and_keys_are_normed_where_the_block_says_so() -> None:
    """Scaled to unit root mean square and by the head's own weights; values are left alone."""
    weight = torch.rand(3, 16, device=DEVICE) + 0.5
    heads = Heads(2, 1, 16, 0.25, qk_norm=weight, qk_norm_eps=1e-6)
    block = PagedBlock(heads, [(5, 1)])
    given = block.qkv.clone().view(4, 16)
    rows = block.rows(rotated=False)

    rotate_and_store(block.qkv, block.pages, rows, heads)

    normed = given[:3] * (given[:3].square().mean(-1, keepdim=True) + 1e-6).rsqrt() * weight
    page = block.segments[0].tables[0][0]
    torch.testing.assert_close(block.qkv.view(4, 16)[:2], normed[:2])
    torch.testing.assert_close(block.pages[page, 5], torch.stack((normed[2], given[3])))


def test_rows_that_fill_up_store_and_see_nothing() -> None:
    """A position below zero leaves the pages alone, and its output is zero."""
    heads = Heads(4, 1, 32, 0.2)
    block = PagedBlock(heads, [(30, 1)])
    rows = block.rows()
    rows.positions.fill_(-1)
    before = block.pages.clone()

    attention = DecodeAttention(1, heads, torch.device(DEVICE))
    attended = attention.attend(block.qkv, block.pages, rows, heads)

    torch.testing.assert_close(block.pages, before, equal_nan=True)
    assert not attended.any()
