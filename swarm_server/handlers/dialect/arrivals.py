"""What comes in on one stream: frames within bounds, and the steps that they hold."""

import asyncio
from collections.abc import Sequence
from typing import Final

from swarm_protocol.dialect import (
    PushedEntry,
    PushedFrame,
    StepEntry,
    StepsFrame,
    decode_request,
)
from swarm_protocol.dialect.decoding import Request
from swarm_protocol.errors import MalformedMessageError
from swarm_protocol.node import ServedStream
from swarm_protocol.rows import Rows
from swarm_server.errors import StepTooLargeError
from swarm_server.handlers.dialect.lane_step import LaneStep
from swarm_server.handlers.opening import ServedModel

_LARGE_BYTES: Final = 1024 * 1024
"""Larger frames are unpacked in a thread: that takes milliseconds."""


class Arrivals:
    """The frames of a stream."""

    def __init__(self, stream: ServedStream, model: ServedModel, max_frame_tokens: int) -> None:
        self._stream = stream
        self._model = model
        self._max_frame_tokens = max_frame_tokens

    async def receive(self) -> Request | None:
        """Return the next frame; None when there are no more.

        Raises:
            MalformedMessageError: it is too large, no request, or of another hidden size.
            StepTooLargeError: it has more tokens than a frame may.
        """
        data = await self._stream.receive()
        if data is None:
            return None
        most = self._model.max_frame_bytes
        if len(data) > most:
            raise MalformedMessageError(f"expected at most {most} bytes, got {len(data)}")
        large = len(data) > _LARGE_BYTES
        frame = await asyncio.to_thread(decode_request, data) if large else decode_request(data)
        if isinstance(frame, StepsFrame | PushedFrame):
            self._check(*frame.hidden.shape)
        return frame

    def _check(self, num_tokens: int, hidden_size: int) -> None:
        if num_tokens > self._max_frame_tokens:
            raise StepTooLargeError(num_tokens, self._max_frame_tokens)
        if hidden_size != self._model.hidden_size:
            raise MalformedMessageError(
                f"hidden states have {self._model.hidden_size} values, got {hidden_size}"
            )


def steps_of(frame: StepsFrame | PushedFrame) -> list[LaneStep]:
    """Return the step of each entry, in their order."""
    entries: Sequence[StepEntry | PushedEntry] = frame.entries
    steps, hidden, start = list[LaneStep](), frame.hidden, 0
    for entry in entries:
        num_rows, num_tokens = entry.num_rows, entry.num_tokens
        rows = Rows(hidden, start, num_rows, num_tokens)
        steps.append(LaneStep(entry, num_rows * (num_tokens or 1), rows))
        start += num_rows * num_tokens
    for index, extras in frame.extras.items():
        steps[index] = steps[index]._replace(prompts=extras.prompts, hypo_ids=extras.hypo_ids)
    return steps
