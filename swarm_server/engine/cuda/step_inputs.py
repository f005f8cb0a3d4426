"""What a step tells the GPU, at addresses that never change, so that graphs can read it."""

from collections import deque
from typing import Final, NamedTuple

import torch
from torch import Tensor

from swarm_server.engine.batch import Begun
from swarm_server.engine.cuda.buckets import LARGEST, MAX_PAGES, Bucket
from swarm_server.engine.cuda.step_numbers import StepNumbers

FILLER: Final = -1
"""Position of a row that only fills up a bucket: it stores nothing and sees nothing."""

_STARTS: Final = LARGEST.num_rows
_TILES: Final = 2 * LARGEST.num_rows
_PAGES: Final = _TILES + 4 * LARGEST.num_tiles
"""Where table starts, tiles and page ids begin among the numbers; positions come first."""


class StagedStep(NamedTuple):
    """A step in memory of the CPU from which a GPU copies by itself."""

    numbers: Tensor
    hidden: Tensor


class _Stage:
    """Room for one such step."""

    def __init__(self, shape: tuple[int, int], dtype: torch.dtype) -> None:
        self.numbers = torch.zeros(_PAGES + MAX_PAGES, dtype=torch.int32, pin_memory=True)
        self.host_numbers = self.numbers.numpy()
        self.hidden = torch.empty(shape, dtype=dtype, pin_memory=True)


class StepInputs:
    """Hidden states and numbers of one step at a time, for the largest bucket.

    `hidden` is [num_rows, hidden_size]; for the others see `StepNumbers`. They travel through
    memory that the GPU reads by itself, the numbers in one copy. There are two such memories, so
    that the next step can be staged while one is under way.
    """

    def __init__(self, hidden_size: int, *, dtype: torch.dtype, device: torch.device) -> None:
        shape = (LARGEST.num_rows, hidden_size)
        self._stages = deque([_Stage(shape, dtype), _Stage(shape, dtype)])
        self._numbers = torch.zeros_like(self._stages[0].numbers, device=device)
        self.positions = self._numbers[:_STARTS]
        self.table_starts = self._numbers[_STARTS:_TILES]
        self.tiles = self._numbers[_TILES:_PAGES].view(-1, 4)
        self.page_ids = self._numbers[_PAGES:]
        self.hidden = torch.zeros(shape, dtype=dtype, device=device)
        self.clear()

    def clear(self) -> None:
        """Make all rows fillers, and all tiles empty."""
        self._numbers.zero_()
        self.positions.fill_(FILLER)

    def stage(self, hidden: Tensor, numbers: StepNumbers, bucket: Bucket) -> "StagedStep":
        """Lay a step out on the CPU, filled up to its bucket; at most one is under way."""
        self._stages.rotate()
        stage, num_rows = self._stages[0], len(hidden)
        host = stage.host_numbers
        host[:num_rows] = numbers.positions
        host[num_rows : bucket.num_rows] = FILLER
        host[_STARTS : _STARTS + num_rows] = numbers.table_starts
        tiles = host[_TILES : _TILES + 4 * bucket.num_tiles].reshape(-1, 4)
        tiles[: len(numbers.tiles)] = numbers.tiles
        tiles[len(numbers.tiles) :] = 0
        used = _PAGES + len(numbers.page_ids)
        host[_PAGES:used] = numbers.page_ids
        stage.hidden[:num_rows] = hidden
        return StagedStep(stage.numbers[:used], stage.hidden[:num_rows])

    def send(self, step: "StagedStep") -> None:
        """Queue the copies of a step. The step before must have ended."""
        self._numbers[: len(step.numbers)].copy_(step.numbers, non_blocking=True)
        self.hidden[: len(step.hidden)].copy_(step.hidden, non_blocking=True)

    def receive(self, num_rows: int) -> Begun[Tensor]:
        """Queue the copy of `hidden`, [num_rows, hidden_size], to the CPU; that is the outcome."""
        hidden = self.hidden[:num_rows]
        # torch keeps such memory for the next time; new pages of the usual kind cost more.
        outputs = torch.empty_like(hidden, device="cpu", pin_memory=True)
        outputs.copy_(hidden, non_blocking=True)
        copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
        copied.record(torch.cuda.current_stream(hidden.device))

        def wait() -> Tensor:
            copied.synchronize()
            return outputs

        return Begun(wait, copied.query)
