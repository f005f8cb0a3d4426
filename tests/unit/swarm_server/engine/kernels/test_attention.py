"""The attention kernel gives what plain attention gives, and the same bits however it is cut."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from swarm_server.engine.kernels import (
    AttentionHeads,
    AttentionKernel,
    PagedSegments,
    load_attention_kernel,
)
from swarm_server.engine.kernels.attention import SOURCES
from tests.harness.processor_kinds import SHORTER_VECTORS, library_for

TOLERANCES = {
    torch.float32: 2e-6,  # sums of a few hundred products, taken in another order
    torch.bfloat16: 2**-7,  # one rounding of outputs that are at most about 1
}


@pytest.fixture(scope="module")
def kernel() -> AttentionKernel:
    kernel = load_attention_kernel()
    if kernel is None:
        pytest.skip("no C compiler here")
    return kernel


@pytest.fixture(scope="module", params=SHORTER_VECTORS)
def shorter_kernel(request: pytest.FixtureRequest) -> AttentionKernel:
    return AttentionKernel(library_for(request.param, *SOURCES))


@dataclass(frozen=True)
class Kind:
    """What attention looks like in one example."""

    groups: tuple[int, int]
    head_dim: int
    page_size: int
    window: int | None
    has_biases: bool
    dtype: torch.dtype

    @property
    def heads(self) -> AttentionHeads:
        num_heads, num_kv_heads = self.groups
        biases = torch.randn(num_heads, 300) if self.has_biases else None
        return AttentionHeads(
            num_heads, num_kv_heads, self.head_dim, self.head_dim**-0.5, self.window, biases
        )


kinds = st.builds(
    Kind,
    groups=st.sampled_from([(4, 4), (6, 2), (8, 1), (9, 1)]),
    head_dim=st.sampled_from([8, 20, 64, 80, 96, 128]),
    page_size=st.sampled_from([1, 16, 64]),
    window=st.sampled_from([None, 1, 7, 70]),
    has_biases=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
chunks = st.tuples(st.integers(0, 200), st.sampled_from([1, 1, 2, 5, 9, 33, 100]))
"""Position and number of tokens of a segment."""


class Example:
    """Segments whose pages are scattered over a pool that has just enough of them.

    What no token may look at is not a number.
    """

    def __init__(self, kind: Kind, chunks: list[tuple[int, int]], seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.chunks = chunks
        self.heads = kind.heads
        num_heads, num_kv_heads = kind.groups
        num_pages = [-(-(position + count) // kind.page_size) for position, count in chunks]
        self.tables = torch.split(torch.randperm(sum(num_pages), dtype=torch.int32), num_pages)
        sizes = (sum(num_pages), kind.page_size, 2 * num_kv_heads, kind.head_dim)
        self.pages = torch.full(sizes, torch.nan, dtype=kind.dtype)
        for (position, count), table in zip(chunks, self.tables, strict=True):
            first = 0 if kind.window is None else max(0, position + 1 - kind.window)
            for seen in range(first, position + count):
                slot = self.pages[table[seen // kind.page_size], seen % kind.page_size]
                slot.copy_(torch.randn(slot.shape))
        num_tokens = sum(count for _, count in chunks)
        fused = torch.randn(num_tokens, num_heads + 3, kind.head_dim).to(kind.dtype)
        self.queries = fused[:, :num_heads]

    @property
    def segments(self) -> PagedSegments:
        return segments_of(self.chunks, list(self.tables))

    def attend(self, kernel: AttentionKernel) -> Tensor:
        return kernel.prepare(self.segments, self.heads).attend(self.queries, self.pages)

    def attend_in_steps(self, kernel: AttentionKernel) -> Tensor:
        """Return the same with a step for each token."""
        outputs = list[Tensor]()
        for (position, count), table in zip(self.chunks, self.tables, strict=True):
            for own in range(position, position + count):
                query = self.queries[len(outputs)].unsqueeze(0)
                alone = segments_of([(own, 1)], [table])
                outputs.append(kernel.prepare(alone, self.heads).attend(query, self.pages))
        return torch.cat(outputs)


def segments_of(chunks: list[tuple[int, int]], tables: list[Tensor]) -> PagedSegments:
    padded = torch.zeros(len(tables), max(map(len, tables)), dtype=torch.int32)
    for row, table in enumerate(tables):
        padded[row, : len(table)] = table
    counts = torch.tensor([0, *(count for _, count in chunks)])
    return PagedSegments(
        padded,
        counts.cumsum(0).int(),
        torch.tensor([position for position, _ in chunks], dtype=torch.int32),
        max(position + count for position, count in chunks),
    )


def plain_attention(example: Example) -> Tensor:
    """Return the same in float32, token by token, over gathered keys and values."""
    outputs, heads = list[Tensor](), example.heads
    for (position, count), table in zip(example.chunks, example.tables, strict=True):
        for end in range(position + 1, position + count + 1):
            first = 0 if heads.window is None else max(0, end - heads.window)
            slots = example.pages[table.long()].flatten(0, 1)[first:end].float()
            keys, values = slots.transpose(0, 1).chunk(2)
            mask = None if heads.biases is None else heads.biases[:, None, first:end]
            output = scaled_dot_product_attention(
                example.queries[len(outputs), :, None].float(),
                keys.repeat_interleave(heads.num_heads // heads.num_kv_heads, 0),
                values.repeat_interleave(heads.num_heads // heads.num_kv_heads, 0),
                attn_mask=mask,
                scale=heads.scale,
            )
            outputs.append(output.flatten())
    return torch.stack(outputs)


@given(kind=kinds, batch=st.lists(chunks, min_size=1, max_size=3), seed=st.integers(0, 2**31))
@settings(deadline=None, max_examples=60)
def test_outputs_are_those_of_plain_attention(
    kernel: AttentionKernel, kind: Kind, batch: list[tuple[int, int]], seed: int
) -> None:
    """Any lengths, groups of heads, pages, windows and biases, in both dtypes."""
    example = Example(kind, batch, seed)

    outputs = example.attend(kernel)

    expected = plain_attention(example)
    torch.testing.assert_close(outputs.float(), expected, rtol=0, atol=3 * TOLERANCES[kind.dtype])


@given(kind=kinds, batch=st.lists(chunks, min_size=1, max_size=3), seed=st.integers(0, 2**31))
@settings(deadline=None, max_examples=60)
def test_a_chunk_has_the_bits_of_its_tokens_alone(
    kernel: AttentionKernel, kind: Kind, batch: list[tuple[int, int]], seed: int
) -> None:
    """A server that takes over computes in chunks what a lost one had computed in steps."""
    example = Example(kind, batch, seed)

    outputs = example.attend(kernel)

    assert torch.equal(outputs, example.attend_in_steps(kernel))


@given(kind=kinds, batch=st.lists(chunks, min_size=1, max_size=2), seed=st.integers(0, 2**31))
@settings(deadline=None, max_examples=15)
def test_shorter_vectors_give_the_same(
    shorter_kernel: AttentionKernel, kind: Kind, batch: list[tuple[int, int]], seed: int
) -> None:
    """Of older processors, whose tokens alone have the bits of a chunk as well."""
    example = Example(kind, batch, seed)

    outputs = example.attend(shorter_kernel)

    expected = plain_attention(example)
    torch.testing.assert_close(outputs.float(), expected, rtol=0, atol=3 * TOLERANCES[kind.dtype])
    assert torch.equal(outputs, example.attend_in_steps(shorter_kernel))


def test_not_a_number_stays_in_its_row(kernel: AttentionKernel) -> None:
    """A poisoned query poisons its own output, wholly, and none of the same chunk."""
    example = Example(Kind((2, 2), 8, 4, None, has_biases=False, dtype=torch.float32), [(5, 20)])
    clean = example.attend(kernel)
    example.queries[3, 0, 0] = torch.nan

    outputs = example.attend(kernel)

    assert outputs[3, :8].isnan().all()
    others = [token for token in range(20) if token != 3]
    assert torch.equal(outputs[others], clean[others])


def test_a_poisoned_key_is_nothing_to_earlier_tokens(kernel: AttentionKernel) -> None:
    """Tokens of a tile share keys, but none counts a later one's, not even with zero."""
    example = Example(Kind((2, 2), 8, 64, None, has_biases=False, dtype=torch.float32), [(0, 40)])
    clean = example.attend(kernel)
    example.pages[0, 30] = torch.nan

    outputs = example.attend(kernel)

    assert outputs[30:].isnan().all()
    assert torch.equal(outputs[:30], clean[:30])


def test_without_a_compiler_there_is_no_kernel(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The engine goes the way of torch then, which costs speed alone."""
    monkeypatch.setenv("PATH", str(tmp_path))

    assert load_attention_kernel(tmp_path) is None


def test_a_build_is_made_once(kernel: AttentionKernel, tmp_path: Path) -> None:
    """The second process finds the library of the first."""
    load_attention_kernel(tmp_path / "cache")
    (library,) = (tmp_path / "cache").glob("*.so")
    built_at = library.stat().st_mtime_ns

    load_attention_kernel.cache_clear()
    load_attention_kernel(tmp_path / "cache")

    assert library.stat().st_mtime_ns == built_at
