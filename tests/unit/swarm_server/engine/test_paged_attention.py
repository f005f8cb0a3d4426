"""Attention over pages gives what its definition says, whatever goes through at once."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from swarm_server.engine.alibi import Alibi
from swarm_server.engine.block_context import Scoring
from swarm_server.engine.kernels import load_attention_kernel
from swarm_server.engine.page_storage import PageStorage
from swarm_server.engine.paged_attention import PagedAttention
from swarm_server.engine.positions import PositionTables
from swarm_server.engine.segments import Segment
from swarm_server.kv import HOLE, KVLayout
from tests.unit.swarm_server.engine.reference_attention import reference_attention

TOLERANCES = {
    torch.float32: 1e-5,  # sums of up to a hundred products, taken in another order
    # Outputs are at most about 4 and rounded to 8 bits; torch rounds weights and biases as well.
    torch.bfloat16: 0.06,
}
NUM_PAGES = 120


@dataclass(frozen=True)
class Shape:
    """What attention looks like in one example."""

    num_heads: int
    num_kv_heads: int
    head_dim: int
    page_size: int
    window: int | None
    has_alibi: bool
    dtype: torch.dtype

    @property
    def scoring(self) -> Scoring:
        alibi = Alibi(self.num_heads) if self.has_alibi else None
        return Scoring(self.head_dim**-0.5, self.window, alibi)


class Example:
    """Segments with the given (position, num_tokens), filled pages, and the tokens to attend."""

    def __init__(self, shape: Shape, chunks: list[tuple[int, int]], seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        ids = iter(torch.randperm(NUM_PAGES, generator=generator).tolist())
        self.shape = shape
        self.segments = list[Segment]()
        start = 0
        for position, num_tokens in chunks:
            table = [next(ids) for _ in range(-(-(position + num_tokens) // shape.page_size))]
            if shape.window is not None:
                num_behind = max(0, position + 1 - shape.window) // shape.page_size
                table[:num_behind] = [HOLE] * num_behind
            self.segments.append(Segment(start, start + num_tokens, position, (table,)))
            start += num_tokens
        layout = KVLayout([shape.window], shape.page_size)
        heads, width, dtype = shape.num_kv_heads, shape.head_dim, shape.dtype
        self.storage = PageStorage(
            layout, NUM_PAGES, num_kv_heads=heads, head_dim=width, dtype=dtype
        )
        self._fill(generator)
        sizes = (start, shape.num_heads + 2 * heads, width)
        fused = torch.randn(sizes, generator=generator).to(dtype)
        self.queries, self.keys_values = torch.split(fused, [shape.num_heads, 2 * heads], 1)

    def attend(self, *, has_kernel: bool) -> Tensor:
        tables = PositionTables(self.shape.head_dim, dtype=self.shape.dtype)
        kernel = load_attention_kernel() if has_kernel else None
        attention = PagedAttention(self.segments, self.storage, tables, kernel)
        return attention.of_block(0).attend(self.queries, self.keys_values, self.shape.scoring)

    def expected(self) -> Tensor:
        pages = self.storage.pages_of(0)
        return reference_attention(self.queries, pages, self.segments, 0, self.shape.scoring)

    def _fill(self, generator: torch.Generator) -> None:
        """Past tokens are random; what nobody may read is not a number."""
        pages = self.storage.pages_of(0).fill_(torch.nan)
        for segment in self.segments:
            for position in range(segment.position):
                page = segment.tables[0][position // self.shape.page_size]
                if page != HOLE:
                    slot = pages[page, position % self.shape.page_size]
                    slot.copy_(torch.randn(slot.shape, generator=generator))


shapes = st.builds(
    lambda groups, *rest: Shape(*groups, *rest),
    st.sampled_from([(4, 4), (6, 2), (4, 1)]),
    st.sampled_from([8, 20, 64]),
    st.sampled_from([1, 4, 16]),
    st.sampled_from([None, 1, 3, 11]),
    st.booleans(),
    st.sampled_from([torch.float32, torch.bfloat16]),
)
chunks = st.tuples(st.integers(0, 30), st.sampled_from([1, 1, 1, 2, 3, 8, 9, 13]))


@pytest.mark.parametrize("has_kernel", [True, False])
@given(shape=shapes, batch=st.lists(chunks, min_size=1, max_size=5), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=60)
def test_every_token_gets_what_the_definition_says(
    has_kernel: bool, shape: Shape, batch: list[tuple[int, int]], seed: int
) -> None:
    """Single tokens, drafts and chunks, mixed; over any pages, heads, windows and biases."""
    if shape.page_size == 1:
        batch = batch[:2]  # so that there are pages enough
    example = Example(shape, batch, seed)

    outputs = example.attend(has_kernel=has_kernel)

    tolerance = TOLERANCES[shape.dtype]
    torch.testing.assert_close(outputs.float(), example.expected(), atol=tolerance, rtol=0)


def test_chunks_of_one_sequence_in_one_batch_see_each_other() -> None:
    """The second segment of a sequence finds what the first has stored."""
    shape = Shape(4, 2, 8, 4, None, has_alibi=False, dtype=torch.float32)
    example = Example(shape, [(3, 14)])
    whole = example.segments[0]
    example.segments = [
        Segment(0, 10, 3, whole.tables),
        Segment(10, 14, 13, whole.tables),
    ]

    outputs = example.attend(has_kernel=True)

    torch.testing.assert_close(outputs, example.expected(), atol=1e-5, rtol=0)


def test_not_a_number_stays_in_its_sequence() -> None:
    """A poisoned token leaves its neighbours what they get without it, bit for bit."""
    shape = Shape(4, 2, 8, 4, None, has_alibi=False, dtype=torch.float32)
    clean = Example(shape, [(5, 1), (9, 12), (3, 1)])
    poisoned = Example(shape, [(5, 1), (9, 12), (3, 1)])
    poisoned.keys_values[4] = torch.nan
    poisoned.queries[4] = torch.nan

    outputs = poisoned.attend(has_kernel=True)

    assert outputs[4:13].isnan().all()
    expected = clean.attend(has_kernel=True)
    assert torch.equal(outputs[[0, 13]], expected[[0, 13]])
