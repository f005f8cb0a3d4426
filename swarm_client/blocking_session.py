"""The synchronous face of an inference session."""

from typing import Self

from torch import Tensor

from swarm_client.loop_thread import LoopThread
from swarm_client.session import InferenceSession, StepTimings
from swarm_protocol.identifiers import BlockRange


class BlockingSession:
    """An `InferenceSession` for code without an event loop; also a context manager.

    Attributes:
        output_ids: int64 `[batch, num_tokens]`: all tokens of `generate` so far, prompt and
            output; None before the first. The last one has not run through the blocks yet.
    """

    def __init__(self, session: InferenceSession, thread: LoopThread) -> None:
        self.output_ids: Tensor | None = None
        self._session = session
        self._thread = thread

    @property
    def position(self) -> int:
        """Tokens in the servers' KV caches. Setting a smaller value rolls back to it."""
        return self._session.position

    @position.setter
    def position(self, position: int) -> None:
        self._session.roll_back(position)

    @property
    def blocks(self) -> BlockRange:
        """The blocks that every step runs through."""
        return self._session.blocks

    @property
    def max_length(self) -> int:
        """Tokens that the KV caches may hold."""
        return self._session.max_length

    @property
    def last_step(self) -> StepTimings:
        """Timings of the latest step."""
        return self._session.last_step

    def step(
        self, hidden: Tensor, *, prompts: Tensor | None = None, hypo_ids: Tensor | None = None
    ) -> Tensor:
        """Run tokens through all blocks; see `InferenceSession.step`."""
        return self._thread.run(self._session.step(hidden, prompts=prompts, hypo_ids=hypo_ids))

    def close(self) -> None:
        """Free the servers' KV memory. Idempotent."""
        self._thread.run(self._session.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
