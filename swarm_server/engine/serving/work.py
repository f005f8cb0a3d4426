"""A step of a session on its way through the engine, in one batch or several."""

from dataclasses import dataclass

import torch
from torch import Tensor

from swarm_server.engine.serving.inputs import InputChunk
from swarm_server.engine.serving.requests import StepListener, StepResult


@dataclass(slots=True)
class Work:
    """A step that has been submitted.

    Computing goes from token `start` of the session, for what is not in pages must be computed
    again, to the end of `chunk`; only outputs of the chunk count. Times are readings of the clock.
    """

    ticket_id: int
    chunk: InputChunk
    num_rows: int
    start: int
    on_done: StepListener
    submitted_at: float
    is_prefill: bool = False
    blocked_at: float | None = None
    compute_s: float = 0.0
    outputs: Tensor | None = None  # [num_rows, num_tokens, hidden_size], as far as computed

    @property
    def num_tokens(self) -> int:
        """Tokens of each row to compute."""
        return self.chunk.end - self.start

    def restart(self, start: int) -> None:
        """Begin anew at token `start`, because pages have been taken away."""
        self.start, self.outputs = start, None

    def add_outputs(self, hidden: Tensor, end: int, took_s: float) -> None:
        """Take outputs of positions up to `end`, [num_rows, num_tokens, hidden_size].

        Those of tokens before the chunk are dropped.
        """
        self.compute_s += took_s
        num_tokens = hidden.shape[1]
        if end <= self.chunk.position:
            return
        if num_tokens == self.chunk.hidden.shape[1]:  # all at once: the common case
            self.outputs = hidden
            return
        if self.outputs is None:
            shape = (self.num_rows, self.chunk.hidden.shape[1], hidden.shape[2])
            self.outputs = torch.empty(shape, dtype=hidden.dtype)
        last = end - self.chunk.position
        self.outputs[:, last - num_tokens : last] = hidden

    def result(self, finished_at: float, num_batch_rows: int) -> StepResult:
        """Return what the caller gets; all is computed."""
        assert self.outputs is not None
        total_s = finished_at - self.submitted_at
        return StepResult(
            self.outputs, 1e3 * (total_s - self.compute_s), 1e3 * self.compute_s, num_batch_rows
        )
