"""A step of a session on its way through the engine, in one batch or several."""

from dataclasses import dataclass, field
from typing import Final

import torch

from swarm_protocol.rows import Rows
from swarm_server.engine.serving.inputs import InputChunk
from swarm_server.engine.serving.requests import StepListener, StepResult
from swarm_server.scheduler import Ticket

MAX_DECODE_TOKENS: Final = 8
"""Steps of at most so many tokens a row are decodes, which go into every batch."""


@dataclass(slots=True, eq=False)
class Work(Ticket):
    """A step that has been submitted, and the ticket with which it waits.

    Computing goes from token `start` of the session, for what is not in pages must be computed
    again, to the end of `chunk`; only outputs of the chunk count, and with `only_last` only those
    of the last token of each row. Times are readings of the clock.
    """

    chunk: InputChunk
    on_done: StepListener
    submitted_at: float
    only_last: bool = False
    blocked_at: float | None = field(default=None, init=False)
    compute_s: float = field(default=0.0, init=False)
    outputs: Rows | None = field(default=None, init=False)
    """Those that count, as far as computed."""

    @property
    def start(self) -> int:
        """The first token that is still to be computed."""
        return self.chunk.end - self.num_left

    def restart(self, start: int) -> None:
        """Begin anew at token `start`, because pages have been taken away."""
        self.num_left = self.chunk.end - start
        self.is_prefill = self.num_left > MAX_DECODE_TOKENS
        self.outputs = None

    @property
    def is_taken_whole(self) -> bool:
        """Whether a batch takes the chunk and nothing else."""
        return self.num_taken == self.num_left == self.chunk.end - self.chunk.position

    def add_outputs(self, outputs: Rows, took_s: float) -> None:
        """Take outputs of what a batch has taken; of several chunks, those of the last.

        Those that do not count are dropped.
        """
        self.compute_s += took_s
        if self.only_last:
            if self.num_taken == self.num_left:
                self.outputs = outputs.cut(outputs.num_tokens - 1, outputs.num_tokens)
            return
        if self.is_taken_whole:  # the common case
            self.outputs = outputs
            return
        end = self.start + self.num_taken - self.chunk.position
        if end <= 0:
            return
        hidden = outputs.hidden
        if self.outputs is None:
            shape = (self.num_rows, self.chunk.inputs.num_tokens, hidden.shape[2])
            self.outputs = Rows.of(torch.empty(shape, dtype=hidden.dtype))
        self.outputs.hidden[:, end - outputs.num_tokens : end] = hidden

    def result(self, finished_at: float, num_batch_rows: int) -> StepResult:
        """Return what the caller gets; all is computed."""
        assert self.outputs is not None
        total_s = finished_at - self.submitted_at
        return StepResult(
            self.outputs, 1e3 * (total_s - self.compute_s), 1e3 * self.compute_s, num_batch_rows
        )
