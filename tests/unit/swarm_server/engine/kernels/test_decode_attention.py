"""The kernel for decode steps gives what plain attention gives, over any layout of pages."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from swarm_server.engine.kernels import DecodeHeads, DecodeKernel, DecodeRows, load_decode_kernel

TOLERANCES = {
    torch.float32: 2e-6,  # sums of a few hundred products, taken in another order
    torch.bfloat16: 2**-7,  # one rounding of outputs that are at most about 1
}


@pytest.fixture(scope="module")
def kernel() -> DecodeKernel:
    kernel = load_decode_kernel()
    if kernel is None:
        pytest.skip("no C compiler here")
    return kernel


def rows_of(lengths: list[int], page_size: int, *, window: int | None = None) -> DecodeRows:
    """Return rows whose pages are scattered over a pool that has just enough of them."""
    num_pages = [-(-length // page_size) for length in lengths]
    ids = torch.randperm(sum(num_pages), dtype=torch.int32)
    tables = torch.zeros(len(lengths), max(num_pages), dtype=torch.int32)
    for row, pages in enumerate(torch.split(ids, num_pages)):
        tables[row, : len(pages)] = pages
    firsts = [0 if window is None else max(0, length - window) for length in lengths]
    return DecodeRows(
        tables,
        torch.tensor(firsts, dtype=torch.int32),
        torch.tensor(lengths, dtype=torch.int32),
        max(lengths),
    )


def plain_attention(rows: DecodeRows, heads: DecodeHeads, queries: Tensor, pages: Tensor) -> Tensor:
    """Return the same in float32, row by row, over gathered keys and values."""
    outputs = []
    for row, table in enumerate(rows.tables):
        first, end = int(rows.first_keys[row]), int(rows.lengths[row])
        slots = pages[table.long()].flatten(0, 1)[first:end].float()
        keys, values = slots.transpose(0, 1).chunk(2)
        mask = None if heads.biases is None else heads.biases[:, None, first:end]
        output = scaled_dot_product_attention(
            queries[row, :, None].float(),
            keys.repeat_interleave(heads.num_heads // heads.num_kv_heads, 0),
            values.repeat_interleave(heads.num_heads // heads.num_kv_heads, 0),
            attn_mask=mask,
            scale=heads.scale,
        )
        outputs.append(output.flatten())
    return torch.stack(outputs)


@given(
    seed=st.integers(0, 2**31),
    lengths=st.lists(st.integers(1, 90), min_size=1, max_size=5),
    groups=st.sampled_from([(4, 4), (6, 2), (8, 1)]),
    head_dim=st.sampled_from([8, 20, 64, 128]),
    page_size=st.sampled_from([1, 16, 64]),
    window=st.sampled_from([None, 1, 7]),
    has_biases=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
@settings(deadline=None)
def test_outputs_are_those_of_plain_attention(
    kernel: DecodeKernel,
    seed: int,
    lengths: list[int],
    groups: tuple[int, int],
    head_dim: int,
    page_size: int,
    window: int | None,
    has_biases: bool,
    dtype: torch.dtype,
) -> None:
    """Any lengths, groups of heads, pages, windows and biases, in both dtypes."""
    torch.manual_seed(seed)
    num_heads, num_kv_heads = groups
    rows = rows_of(lengths, page_size, window=window)
    biases = torch.randn(num_heads, 100) if has_biases else None
    heads = DecodeHeads(num_heads, num_kv_heads, head_dim, head_dim**-0.5, biases)
    pages = torch.randn(int(rows.tables.max()) + 1, page_size, 2 * num_kv_heads, head_dim).to(dtype)
    fused = torch.randn(len(lengths), num_heads + 3, head_dim).to(dtype)
    queries = fused[:, :num_heads]

    outputs = kernel.prepare(rows, heads).attend(queries, pages)

    expected = plain_attention(rows, heads, queries, pages)
    torch.testing.assert_close(outputs.float(), expected, rtol=0, atol=3 * TOLERANCES[dtype])


def test_not_a_number_stays_in_its_row(kernel: DecodeKernel) -> None:
    """A poisoned query poisons its own output, wholly, and no other."""
    rows, heads = rows_of([5, 9, 3], 4), DecodeHeads(2, 2, 8, 1.0)
    pages = torch.randn(8, 4, 4, 8)
    queries = torch.randn(3, 2, 8)
    alone = kernel.prepare(rows, heads).attend(queries, pages)
    queries[1, 0, 0] = torch.nan

    outputs = kernel.prepare(rows, heads).attend(queries, pages)

    assert outputs[1, :8].isnan().all()
    torch.testing.assert_close(outputs[[0, 2]], alone[[0, 2]], rtol=0, atol=0)


def test_without_a_compiler_there_is_no_kernel(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The engine goes the way of torch then, which costs speed alone."""
    monkeypatch.setenv("PATH", str(tmp_path))

    assert load_decode_kernel(tmp_path) is None


def test_a_build_is_made_once(kernel: DecodeKernel, tmp_path: Path) -> None:
    """The second process finds the library of the first."""
    load_decode_kernel(tmp_path / "cache")
    (library,) = (tmp_path / "cache").iterdir()
    built_at = library.stat().st_mtime_ns

    load_decode_kernel.cache_clear()
    load_decode_kernel(tmp_path / "cache")

    assert library.stat().st_mtime_ns == built_at
