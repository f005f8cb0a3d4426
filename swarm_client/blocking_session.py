"""The synchronous face of an inference session."""

from typing import Self

from torch import Tensor

from swarm_client.loop_thread import LoopThread
from swarm_client.session import RewindableSession, StepTimings
from swarm_protocol.identifiers import BlockRange


class BlockingSession:
    """A `RewindableSession` for code without an event loop; also a context manager.

    Attributes:
        output_ids: int64 `[batch, num_tokens]`: all tokens of `generate` so far, prompt and
            output; None before the first. The last one has not run through the blocks yet.
        num_tuned: of the tokens run, how many are trained prompts at the start.
    """

    def __init__(self, session: RewindableSession, thread: LoopThread) -> None:
        self.output_ids: Tensor | None = None
        self.num_tuned = 0
        self._session = session
        self._thread = thread

    @property
    def position(self) -> int:
        """Tokens run through the blocks, which the next ones follow; trained prompts included.

        Setting a smaller value forgets the tokens from there on, in `output_ids` too. Servers
        that cannot roll back are sent the rest again, with the next step.
        """
        return self._session.position

    @position.setter
    def position(self, position: int) -> None:
        if 0 < position < self.num_tuned:
            raise ValueError(f"the trained prompts end at {self.num_tuned}, got {position}")
        was_at = self.position
        self._session.roll_back(position)
        if position < was_at and self.output_ids is not None:
            self.output_ids = self.output_ids[:, : max(position - self.num_tuned, 0)]

    @property
    def num_tokens_run(self) -> int:
        """Tokens run through the blocks, without trained prompts."""
        return max(self.position - self.num_tuned, 0)

    @property
    def blocks(self) -> BlockRange:
        """Those that every step runs through."""
        return self._session.blocks

    @property
    def max_length(self) -> int:
        """Tokens that the KV caches may hold, trained prompts included."""
        return self._session.max_length

    @property
    def is_closed(self) -> bool:
        """Whether it has ended."""
        return self._session.is_closed

    @property
    def num_rows(self) -> int | None:
        """Rows of every step; None while any number will do."""
        return self._session.num_rows

    @property
    def last_token_id(self) -> Tensor | None:
        """The last column of `output_ids`, `[batch, 1]`. It may be replaced by another one."""
        return None if self.output_ids is None else self.output_ids[:, -1:]

    @last_token_id.setter
    def last_token_id(self, token_id: Tensor) -> None:
        if self.output_ids is None:
            raise ValueError("nothing was generated yet, so there is no last token to replace")
        self.output_ids = self.output_ids.clone()
        self.output_ids[:, -1:] = token_id

    @property
    def last_step(self) -> StepTimings:
        """Timings of the latest step."""
        return self._session.last_step

    def take_rows(self, rows: Tensor) -> None:
        """Let the next step continue these rows; see `RewindableSession.take_rows`."""
        self._session.take_rows(rows)

    def step(
        self, hidden: Tensor, *, prompts: Tensor | None = None, hypo_ids: Tensor | None = None
    ) -> Tensor:
        """Run tokens through all blocks; see `RewindableSession.step`."""
        return self._thread.run(self._session.step(hidden, prompts=prompts, hypo_ids=hypo_ids))

    def close(self) -> None:
        """Free the servers' KV memory. Idempotent."""
        self._thread.run(self._session.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
