"""What goes back on one stream: gathered while a frame is being sent, then sent together."""

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias

from swarm_protocol.dialect import (
    IS_COPY,
    MAX_U32,
    ONLY_LAST,
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

_MAX_TOLD: Final = 128
"""Openings or failures in one frame: a client reads a MiB of them at most."""

_MAX_U16: Final = 2**16 - 1


class Reply(NamedTuple):
    """A frame to send; `num_inflight` is what it takes off the count of flow control."""

    data: bytes
    num_inflight: int


_Output: TypeAlias = tuple[int, LaneStep, StepResult, bool]
"""Id of the session, what it has computed, and whether the next server has been sent it, too."""


class Replies:
    """Holds what has not been sent. The tokens of steps are counted already; all else is here.

    Outputs wait for `wake_if_any`, all else wakes the writer at once.
    """

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

    def add_failure(self, failure: Failure) -> None:
        """Say that a session has ended."""
        self._inflight.add(1)
        self._failures.append(failure)
        self._is_there.set()

    def wake_if_any(self) -> None:
        """Wake the writer, if there is anything to send."""
        if self._outputs or self._opened or self._failures:
            self._is_there.set()

    async def wait(self) -> None:
        """Wait until the writer is woken."""
        await self._is_there.wait()
        self._is_there.clear()

    def next_frame(self) -> Reply | None:
        """Take out what is sent next; None when all is. Outputs are in as few frames as fit."""
        if self._opened:
            opened, self._opened = self._opened[:_MAX_TOLD], self._opened[_MAX_TOLD:]
            return Reply(encode_opened(opened), len(opened))
        if self._outputs:
            sizes = [step.size for _, step, _, _ in self._outputs]
            run = next(fill_frames(sizes, self._frame_tokens))
            outputs = self._outputs[run]
            del self._outputs[run]
            return Reply(_encode(outputs), sum(sizes[run]))
        if self._failures:
            failures, self._failures = self._failures[:_MAX_TOLD], self._failures[_MAX_TOLD:]
            return Reply(encode_failed(failures), len(failures))
        return None


def _encode(outputs: Sequence[_Output]) -> bytes:
    entries = [
        OutputEntry(
            session_id,
            *step.entry[1:5],
            int(result.queue_ms * 1e3) & MAX_U32,  # 71 minutes
            int(result.compute_ms * 1e3) & MAX_U32,
            result.num_batch_rows & _MAX_U16,
            IS_COPY if is_copy else 0,
        )
        for session_id, step, result, is_copy in outputs
    ]
    for index in [index for index, (_, step, _, _) in enumerate(outputs) if step.only_last]:
        end = outputs[index][1].end
        entries[index] = entries[index]._replace(position=end - 1, num_tokens=1, flags=ONLY_LAST)
    hidden = join_rows([result.rows for _, _, result, _ in outputs])
    return encode_outputs(OutputsFrame(entries, hidden))
