"""Masks of a chunk: causal, windowed, and ALiBi's."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from swarm_server.engine.alibi import Alibi
from swarm_server.engine.block_context import Scoring
from swarm_server.engine.chunk_masks import ChunkMasks
from swarm_server.engine.positions import PositionTables


def make_chunk(position: int, num_tokens: int) -> ChunkMasks:
    return ChunkMasks(position, num_tokens, PositionTables(8, dtype=torch.float32))


def alibi_of(num_heads: int) -> Scoring:
    return Scoring(1.0, alibi=Alibi(num_heads))


@given(
    position=st.integers(0, 12),
    num_tokens=st.integers(1, 12),
    window=st.one_of(st.none(), st.integers(1, 14)),
)
def test_a_token_sees_itself_and_the_window_before(
    position: int, num_tokens: int, window: int | None
) -> None:
    """Whatever form the mask has, it lets exactly these keys through."""
    chunk = make_chunk(position, num_tokens)
    first = chunk.first_key(window)
    num_keys = position + num_tokens - first

    mask = chunk.mask(Scoring(1.0, window))

    if mask is None:  # everything for one token, plainly causal for a chunk
        assert num_tokens == 1 or first == position
        mask = torch.ones(num_tokens, num_keys, dtype=torch.bool)
        mask = mask if num_tokens == 1 else mask.tril()
    assert mask.shape == (num_tokens, num_keys)
    for token in range(num_tokens):
        own = position + token
        least = 0 if window is None else max(0, own + 1 - window)
        seen = [first + key for key in torch.nonzero(mask[token]).flatten().tolist()]
        assert seen == list(range(least, own + 1))


def test_one_mask_serves_all_blocks_of_a_step() -> None:
    """It is made once for each way to score."""
    chunk = make_chunk(3, 4)

    assert chunk.mask(Scoring(1.0, 2)) is chunk.mask(Scoring(1.0, 2))
    assert chunk.mask(alibi_of(2)) is chunk.mask(alibi_of(2))


def test_alibi_hides_later_keys_and_favours_near_ones() -> None:
    """Biases grow with the key's position; what a token must not see is minus infinity."""
    mask = make_chunk(1, 2).mask(alibi_of(2))

    assert mask is not None
    assert mask[0].tolist() == [[0.0, 0.0625, -torch.inf], [0.0, 0.0625, 0.125]]


def test_one_token_needs_no_row_of_its_own() -> None:
    """Its biases are the table's."""
    mask = make_chunk(3, 1).mask(alibi_of(2))

    assert mask is not None
    assert mask.shape == (2, 1, 4)
    assert torch.isfinite(mask).all()


@pytest.mark.parametrize("num_heads", [1, 2, 5, 8, 12, 71, 112])
def test_slopes_fall_within_each_row(num_heads: int) -> None:
    """A head for each, all different, between 0 and 1; a power of two of heads is geometric."""
    slopes = Alibi(num_heads).slopes().tolist()

    assert len(set(slopes)) == num_heads
    assert all(0 < slope < 1 for slope in slopes)
    if num_heads == 8:
        assert slopes == [2.0**-power for power in range(1, 9)]


def test_rounded_biases_are_bfloat16_numbers_times_the_scale() -> None:
    """Falcon computes them so in every dtype."""
    tables = PositionTables(8, dtype=torch.float32)

    biases = tables.alibi(Alibi(12, scale=0.5, is_rounded=True), 300)

    assert torch.equal((biases * 2).bfloat16().float(), biases * 2)
    assert not torch.equal(biases * 2, tables.alibi(Alibi(12), 300))


def test_a_table_grows_beyond_its_first_size() -> None:
    """Positions looked up before and after have the same biases."""
    tables = PositionTables(8, dtype=torch.float32)
    before = tables.alibi(Alibi(4), 10)

    assert tables.alibi(Alibi(4), 2000).shape == (4, 1, 2000)
    assert torch.equal(tables.alibi(Alibi(4), 10), before)
