"""What a lone row tells the GPU. Its graph fetches that by itself.

To number a step, lay it out and queue copies of it takes the CPU 0.1 ms, in which a lone row waits.
Here what it has to say is written where a kernel of the graph reads it, and its step is one launch.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# ruff: noqa: N803, PLR0913  # a kernel's parameters are pointers and constants of its build

from collections.abc import Sequence
from typing import Final

import torch
import triton  # type: ignore[import-not-found]
import triton.language as tl  # type: ignore[import-not-found]
from torch import Tensor

from swarm_server.engine.cuda.buckets import MAX_PAGES
from swarm_server.engine.cuda.step_inputs import FILLER, StepInputs

_BLOCK: Final = 1024

_POSITION, _NUM_PAGES, _PAGES = 0, 1, 2
"""Where the row's position, the length of its table, and that itself are among the numbers."""


@triton.jit
def _fetch_kernel(
    numbers,
    host_hidden,
    positions,
    table_starts,
    page_ids,
    hidden,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A part of the hidden states and of the table; the first program has the position as well."""
    program, lane = tl.program_id(0), tl.arange(0, BLOCK)
    if program == 0:
        tl.store(positions, tl.load(numbers))
        tl.store(table_starts, 0)
    at = program * BLOCK + lane
    tl.store(hidden + at, tl.load(host_hidden + at, mask=at < WIDTH), mask=at < WIDTH)
    num_pages = tl.load(numbers + 1)
    for start in range(program * BLOCK, num_pages, tl.num_programs(0) * BLOCK):
        is_page = start + lane < num_pages
        page = tl.load(numbers + 2 + start + lane, mask=is_page)
        tl.store(page_ids + start + lane, page, mask=is_page)


class LoneInputs:
    """Numbers and hidden states of a lone row, in memory of the CPU that the GPU reads."""

    def __init__(self, inputs: StepInputs) -> None:
        """Begin with a row that only fills up.

        Args:
            inputs: what the graph uses, and `fetch` fills.
        """
        self._inputs = inputs
        self._numbers = torch.zeros(_PAGES + MAX_PAGES, dtype=torch.int32, pin_memory=True)
        self._host_numbers = self._numbers.numpy()
        self._hidden = torch.zeros_like(inputs.hidden[:1], device="cpu", pin_memory=True)
        self.clear()

    def clear(self) -> None:
        """Put a row there that stores nothing and sees nothing."""
        self._host_numbers[_POSITION], self._host_numbers[_NUM_PAGES] = FILLER, 0

    def write(self, hidden: Tensor, position: int, table: Sequence[int]) -> None:
        """Put a row [1, hidden_size] there. The step before must have ended."""
        numbers = self._host_numbers
        numbers[_POSITION], numbers[_NUM_PAGES] = position, len(table)
        numbers[_PAGES : _PAGES + len(table)] = table
        self._hidden.copy_(hidden)

    def fetch(self) -> None:
        """Start the kernel that fetches what is there; to be captured."""
        inputs, width = self._inputs, self._hidden.shape[1]
        _fetch_kernel[(-(-width // _BLOCK),)](
            self._numbers,
            self._hidden,
            inputs.positions,
            inputs.table_starts,
            inputs.page_ids,
            inputs.hidden,
            WIDTH=width,
            BLOCK=_BLOCK,
        )
