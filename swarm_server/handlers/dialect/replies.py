"""What goes back on one stream: gathered while a frame is being sent, then sent together."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from torch import Tensor

from swarm_protocol.dialect import (
    IS_COPY,
    Failure,
    Opened,
    OutputEntry,
    OutputsFrame,
    encode_failed,
    encode_opened,
    encode_outputs,
)
from swarm_server.engine.serving.assembly import join_rows
from swarm_server.engine.serving.requests import StepResult
from swarm_server.handlers.dialect.filling import fill_frames
from swarm_server.handlers.dialect.inflight import InflightTokens
from swarm_server.handlers.dialect.lane_step import LaneStep

_MAX_U32: Final = 2**32 - 1
_MAX_U16: Final = 2**16 - 1


@dataclass(frozen=True, slots=True)
class Reply:
    """A frame to send; `num_inflight` is what it takes off the count of flow control."""

    data: bytes
    num_inflight: int


class _Output(NamedTuple):
    """Outputs of one step."""

    entry: OutputEntry
    hidden: Tensor
    size: int


class Replies:
    """Holds what has not been sent. The tokens of steps are counted already; all else is here."""

    def __init__(self, inflight: InflightTokens, *, max_frame_tokens: int) -> None:
        self._inflight = inflight
        self._max_frame_tokens = max_frame_tokens
        self._opened: list[Opened] = []
        self._failures: list[Failure] = []
        self._outputs: list[_Output] = []
        self._is_there = asyncio.Event()

    def add_opened(self, opened: Opened) -> None:
        """Say that a session is open."""
        self._inflight.add(1)
        self._opened.append(opened)
        self._is_there.set()

    def add_output(
        self, session_id: int, step: LaneStep, result: StepResult, *, is_copy: bool
    ) -> None:
        """Return the outputs of a step; a copy is what the next server has been sent, too."""
        hidden, queue_ms, compute_ms, num_batch_rows = result
        entry = OutputEntry(
            session_id,
            step.number,
            step.position,
            step.num_rows,
            step.num_tokens,
            min(int(queue_ms * 1e3), _MAX_U32),
            min(int(compute_ms * 1e3), _MAX_U32),
            min(num_batch_rows, _MAX_U16),
            IS_COPY if is_copy else 0,
        )
        self._outputs.append(_Output(entry, hidden, step.size))
        self._is_there.set()

    def add_failure(self, failure: Failure) -> None:
        """Say that a session has ended."""
        self._inflight.add(1)
        self._failures.append(failure)
        self._is_there.set()

    async def take(self) -> Iterator[Reply]:
        """Wait for something to send; then yield all of it, outputs in as few frames as fit."""
        await self._is_there.wait()
        self._is_there.clear()
        opened, self._opened = self._opened, []
        outputs, self._outputs = self._outputs, []
        failures, self._failures = self._failures, []
        return self._frames(opened, outputs, failures)

    def _frames(
        self, opened: list[Opened], outputs: list[_Output], failures: list[Failure]
    ) -> Iterator[Reply]:
        if opened:
            yield Reply(encode_opened(opened), len(opened))
        for run in fill_frames(outputs, self._max_frame_tokens):
            yield _outputs_reply(run)
        if failures:
            yield Reply(encode_failed(failures), len(failures))


def _outputs_reply(outputs: Sequence[_Output]) -> Reply:
    hidden = join_rows([output.hidden for output in outputs])
    frame = OutputsFrame([output.entry for output in outputs], hidden)
    return Reply(encode_outputs(frame), sum([output.size for output in outputs]))
