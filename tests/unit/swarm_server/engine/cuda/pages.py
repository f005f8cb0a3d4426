"""Random pages of a block, and the plain float32 attention that kernels must equal."""

import os

import pytest
import torch
from torch import Tensor

IS_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

pytest.importorskip("triton", reason="the kernels need Triton")
if DEVICE == "cpu" and not IS_INTERPRETED:
    pytest.skip("the kernels need a GPU, or TRITON_INTERPRET=1", allow_module_level=True)

from swarm_server.engine.cuda.attention import ChunkAttention, Heads, Rows  # noqa: E402  # needs Triton
from swarm_server.engine.cuda.step_numbers import StepNumbers, number_step  # noqa: E402
from swarm_server.engine.segments import Segment  # noqa: E402

PAGE_SIZE = 16
NUM_PAGES = 40


class PagedBlock:
    """Sequences of some lengths with their pages shuffled, and the rows that come next."""

    def __init__(
        self, heads: Heads, chunks: list[tuple[int, int]], *, page_size: int = PAGE_SIZE
    ) -> None:
        """Take the first position and the number of new rows of every sequence."""
        self._generator = torch.Generator().manual_seed(0)
        self.heads = heads
        ids = torch.randperm(NUM_PAGES, generator=self._generator).tolist()
        self.segments, row = [], 0
        for position, num_rows in chunks:
            count = -(-(position + num_rows) // page_size)
            table = [ids.pop() for _ in range(count)]
            self.segments.append(Segment(row, row + num_rows, position, (table,)))
            row += num_rows
        self.num_rows = row
        width = (heads.num_heads + 2 * heads.num_kv_heads) * heads.head_dim
        self.qkv = self._random(row, width)
        shape = (NUM_PAGES, page_size, 2 * heads.num_kv_heads, heads.head_dim)
        self.pages = torch.full(shape, torch.nan, device=DEVICE)
        for segment in self.segments:
            for position in range(segment.position):
                page = segment.tables[0][position // page_size]
                self.pages[page, position % page_size] = self._random(*shape[2:])

    def numbers(self) -> StepNumbers:
        """Return the numbers of a step with these rows."""
        return number_step(self.segments, ChunkAttention.tile_rows(self.heads))

    def rows(self, *, rotated: bool = True) -> Rows:
        """Return the rows for the kernels; those of `rotated=False` turn by nothing."""
        numbers = self.numbers()
        positions = torch.from_numpy(numbers.positions).to(DEVICE)
        half = self.heads.head_dim // 2
        frequencies = 0.5 ** torch.arange(half, device=DEVICE)
        angles = positions[:, None] * frequencies * float(rotated)
        return Rows(
            positions,
            torch.from_numpy(numbers.table_starts).to(DEVICE),
            torch.from_numpy(numbers.page_ids).to(DEVICE),
            angles.cos(),
            angles.sin(),
        )

    def attended(self) -> Tensor:
        """Return plain attention of all rows, [num_rows, num_heads * head_dim], in float32."""
        heads = self.heads
        qkv = self.qkv.float().view(self.num_rows, -1, heads.head_dim)
        outputs = []
        for segment in self.segments:
            for row in range(segment.start, segment.end):
                length = segment.position + row - segment.start + 1
                kept = self.pages[list(segment.tables[0])].flatten(0, 1)[:length].float()
                keys = kept[:, : heads.num_kv_heads].repeat_interleave(heads.group, 1)
                values = kept[:, heads.num_kv_heads :].repeat_interleave(heads.group, 1)
                scores = torch.einsum("hd,khd->hk", qkv[row, : heads.num_heads], keys)
                weights = (scores * heads.scale).softmax(-1)
                outputs.append(torch.einsum("hk,khd->hd", weights, values).flatten())
        return torch.stack(outputs)

    def _random(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self._generator).to(DEVICE)
