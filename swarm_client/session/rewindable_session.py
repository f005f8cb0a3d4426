"""An inference session that can go back to any position and change its rows.

Where the servers can do it, they are asked to. Otherwise what went in is replayed into a fresh
session, which the caller does not notice but for the time it takes. The same mends a session
whose servers were lost.
"""

from collections.abc import Awaitable, Callable
from typing import Self, TypeAlias

import torch
from torch import Tensor

from swarm_client.errors import (
    CapacityError,
    MaxLengthExceededError,
    RollbackUnsupportedError,
    SessionClosedError,
    SessionLostError,
)
from swarm_client.session.history import History, StepInputs, follow
from swarm_client.session.inference_session import InferenceSession
from swarm_client.session.step_checks import check_hypo_ids
from swarm_client.session.timings import StepTimings
from swarm_protocol.identifiers import BlockRange

SessionOpener: TypeAlias = Callable[[int], Awaitable[InferenceSession]]
"""Opens a session for a number of rows."""


class RewindableSession:
    """Open inference sessions one after the other, as if they were one. One step at a time."""

    def __init__(
        self,
        opener: SessionOpener,
        session: InferenceSession,
        *,
        max_history_bytes: int,
        max_replays: int,
    ) -> None:
        self._opener = opener
        self._session = session
        self._history = History(max_bytes=max_history_bytes)
        self._max_replays = max_replays
        self._position = 0
        self._num_rows: int | None = None
        self._rows: Tensor | None = None  # of the open session, that ours continue
        self._is_outdated = False  # the open session is not at our position, or lost
        self._is_stepping = False
        self._is_closed = False

    @classmethod
    async def open(
        cls, opener: SessionOpener, *, batch_size: int, max_history_bytes: int, max_replays: int
    ) -> Self:
        """Return a session at position 0.

        Args:
            opener: opens the sessions.
            batch_size: rows that the caller means to use.
            max_history_bytes: inputs that may be kept for a replay.
            max_replays: after losses within one step.

        Raises:
            NoRouteError, PeerError, DeadlineExceededError, NodeError: see the opener.
        """
        session = await opener(batch_size)
        return cls(opener, session, max_history_bytes=max_history_bytes, max_replays=max_replays)

    @property
    def position(self) -> int:
        """Tokens that the next ones follow."""
        return self._position

    @property
    def blocks(self) -> BlockRange:
        """Those that every step runs through."""
        return self._session.blocks

    @property
    def max_length(self) -> int:
        """Tokens that the KV caches may hold."""
        return self._session.max_length

    @property
    def num_rows(self) -> int | None:
        """Rows of every step; None while any number will do."""
        return self._num_rows if self._position else None

    @property
    def last_step(self) -> StepTimings:
        """Timings of the latest step."""
        return self._session.last_step

    @property
    def is_closed(self) -> bool:
        """Whether it has ended: closed by its owner, or lost with nothing to replay."""
        return self._is_closed or (self._session.is_closed and not self._history.is_complete)

    def roll_back(self, position: int) -> None:
        """Forget all tokens from `position` on. Nothing is sent before the next step.

        Raises:
            ValueError: the position is not in `0..self.position`.
            RollbackUnsupportedError: the servers cannot, and the inputs were too many to keep.
            SessionClosedError: it is closed.
        """
        if self.is_closed:
            raise SessionClosedError
        if not 0 <= position <= self._position:
            raise ValueError(f"can roll back to 0..{self._position}, got {position}")
        if position == self._position:
            return
        if self._session.can_roll_back and not self._is_outdated:
            self._session.roll_back(position)
        elif self._history.is_complete or position == 0:
            self._is_outdated = True
        else:
            raise RollbackUnsupportedError
        self._history.truncate(position)
        self._position = position
        if position == 0:
            self._rows = None

    def take_rows(self, rows: Tensor) -> None:
        """Let the next step continue these rows, in this order. Nothing is sent before it.

        Args:
            rows: int64 `[any number]`, each in `0..self.num_rows - 1`.

        Raises:
            RollbackUnsupportedError: their number changes, and the inputs were too many to keep.
        """
        if self.num_rows is None:
            return
        rows = rows.cpu()
        if len(rows) != self._session.batch_size and not self._history.is_complete:
            raise RollbackUnsupportedError
        self._rows = follow(self._rows, rows)
        self._num_rows = len(rows)

    async def step(
        self, hidden: Tensor, *, prompts: Tensor | None = None, hypo_ids: Tensor | None = None
    ) -> Tensor:
        """Run tokens through the blocks; see `InferenceSession.step`.

        Lost servers are replaced, and what they held is replayed.
        """
        if self.is_closed:
            raise SessionClosedError
        if self.num_rows is not None and len(hidden) != self.num_rows:
            raise ValueError(f"this session has {self.num_rows} rows, got {len(hidden)}")
        if self._position + hidden.shape[1] > self.max_length:  # a replay would be in vain
            raise MaxLengthExceededError(self._position, hidden.shape[1], self.max_length)
        if hypo_ids is not None:
            check_hypo_ids(hypo_ids, len(hidden))
        if self._is_stepping:
            raise RuntimeError("a session takes one step at a time")
        self._is_stepping = True
        try:
            output = await self._step(hidden, prompts, hypo_ids)
        finally:
            self._is_stepping = False
        self._num_rows = len(hidden)
        self._position += hidden.shape[1]
        return output

    async def close(self) -> None:
        """Free the servers' KV memory. Idempotent, bounded in time, never raises."""
        self._is_closed = True
        await self._session.close()

    async def _step(
        self, hidden: Tensor, prompts: Tensor | None, hypo_ids: Tensor | None
    ) -> Tensor:
        num_replays = 0
        while True:
            try:
                await self._catch_up(len(hidden))
                order = follow(self._rows, None if hypo_ids is None else hypo_ids.cpu())
                output = await self._session.step(hidden, prompts=prompts, hypo_ids=order)
                self._rows = None
                self._history.append(_copy(hidden, prompts, order))
                return output
            except (SessionLostError, CapacityError):
                num_replays += 1
                if self.is_closed or self._position == 0 or num_replays > self._max_replays:
                    raise
            finally:
                self._is_outdated = self._is_outdated or self._session.is_closed

    async def _catch_up(self, num_rows: int) -> None:
        """Replace the open session unless it is at our position with as many rows."""
        if not self._is_outdated and self._session.batch_size in (None, num_rows):
            return
        if not self._history.is_complete:
            raise SessionClosedError
        inputs = None
        if self._position:
            rows = torch.arange(num_rows) if self._rows is None else self._rows
            inputs = self._history.inputs_of(rows)
        self._is_outdated = True
        await self._session.close()
        self._session = await self._opener(num_rows)
        if inputs is not None:
            await self._session.step(inputs.hidden, prompts=inputs.prompts)
        self._history.replace(inputs)
        self._rows = None
        self._is_outdated = False


def _copy(hidden: Tensor, prompts: Tensor | None, hypo_ids: Tensor | None) -> StepInputs:
    """Return inputs that the caller's later changes do not reach."""
    kept_prompts = None if prompts is None else prompts.detach().to("cpu", copy=True)
    return StepInputs(hidden.detach().to("cpu", copy=True), kept_prompts, hypo_ids)
