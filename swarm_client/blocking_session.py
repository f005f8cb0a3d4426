"""The synchronous face of an inference session."""

from typing import Self

import torch
from torch import Tensor

from swarm_client.loop_thread import LoopThread
from swarm_client.session import InferenceSession, StepTimings
from swarm_protocol.identifiers import BlockRange


class BlockingSession:
    """A `InferenceSession` for code without an event loop; also a context manager.

    Attributes:
        num_tuned: of the tokens run, how many are trained prompts at the start.
    """

    def __init__(self, session: InferenceSession, thread: LoopThread) -> None:
        self.num_tuned = 0
        self._session = session
        self._thread = thread
        self._output_ids: Tensor | None = None
        self._output_lengths: set[int] = set()  # that `output_ids` has had

    @property
    def output_ids(self) -> Tensor | None:
        """All tokens of `generate` so far, prompt and output, int64 `[batch, num_tokens]`.

        None before the first call. The last token has not run through the blocks yet. Other
        tokens may be put in their place.
        """
        return self._output_ids

    @output_ids.setter
    def output_ids(self, output_ids: Tensor | None) -> None:
        self._output_ids = output_ids
        if output_ids is not None:
            self._output_lengths.add(output_ids.shape[1])

    @property
    def position(self) -> int:
        """Tokens run through the blocks, which the next ones follow; trained prompts included.

        Setting a smaller value forgets the tokens from there on, in `output_ids` too; back where
        a call of `generate` ended, its last token, which had not run, is there again. Servers
        that cannot roll back are sent what is left once more, with the next step. After a beam
        search the best text has yet to run, by the next call, from the end of the prompt on.
        """
        return self._session.position

    @position.setter
    def position(self, position: int) -> None:
        if 0 < position < self.num_tuned:
            raise ValueError(f"the trained prompts end at {self.num_tuned}, got {position}")
        num_known = 0 if self._output_ids is None else self._output_ids.shape[1]
        was_at = self.position
        if not was_at < position < self.num_tuned + num_known:  # those have not run anyway
            self._session.roll_back(position)
        if position != was_at and num_known:
            self._cut_output(max(position - self.num_tuned, 0))

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
        self._output_ids = torch.cat([self.output_ids[:, :-1], token_id], dim=1)

    @property
    def last_step(self) -> StepTimings:
        """Timings of the latest step."""
        return self._session.last_step

    def take_rows(self, rows: Tensor) -> None:
        """Let the next step continue these rows; see `InferenceSession.take_rows`."""
        self._session.take_rows(rows)

    def step(
        self,
        hidden: Tensor,
        *,
        prompts: Tensor | None = None,
        hypo_ids: Tensor | None = None,
        only_last: bool = False,
    ) -> Tensor:
        """Run tokens through all blocks; see `InferenceSession.step`."""
        step = self._session.step(hidden, prompts=prompts, hypo_ids=hypo_ids, only_last=only_last)
        return self._thread.run(step)

    def _cut_output(self, num_run: int) -> None:
        """Go back to the ids that there were when so many tokens had run."""
        assert self._output_ids is not None
        num_kept = num_run + 1 if num_run + 1 in self._output_lengths else num_run
        self._output_lengths = {length for length in self._output_lengths if length <= num_kept}
        self._output_ids = self._output_ids[:, :num_kept] if num_run else None

    def close(self) -> None:
        """Free the servers' KV memory. Idempotent."""
        self._thread.run(self._session.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
