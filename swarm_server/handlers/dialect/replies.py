"""What goes back on one stream: gathered while a frame is being sent, then sent together."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

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
from swarm_protocol.rows import join_rows
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


_Output: TypeAlias = tuple[int, LaneStep, StepResult, bool]
"""Id of the session, what it has computed, and whether the next server has been sent it, too."""


class Replies:
    """Holds what has not been sent. The tokens of steps are counted already; all else is here."""

    def __init__(self, inflight: InflightTokens, *, frame_tokens: int) -> None:
        self._inflight = inflight
        self._frame_tokens = frame_tokens
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
        self._outputs.append((session_id, step, result, is_copy))
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
        sizes = [step.size for _, step, _, _ in outputs]
        for run in fill_frames(sizes, self._frame_tokens):
            yield Reply(_encode(outputs[run]), sum(sizes[run]))
        if failures:
            yield Reply(encode_failed(failures), len(failures))


def _encode(outputs: Sequence[_Output]) -> bytes:
    entries = [
        OutputEntry(
            session_id,
            *step.entry[1:5],
            int(result.queue_ms * 1e3) & _MAX_U32,  # 71 minutes
            int(result.compute_ms * 1e3) & _MAX_U32,
            result.num_batch_rows & _MAX_U16,
            IS_COPY if is_copy else 0,
        )
        for session_id, step, result, is_copy in outputs
    ]
    hidden = join_rows([result.rows for _, _, result, _ in outputs])
    return encode_outputs(OutputsFrame(entries, hidden))
