"""A hop's session in our own dialect: a place in a stream that many sessions share.

Knows what a step becomes on the lane, and checks what comes back; knows no frames.
"""

import asyncio
import secrets
from collections.abc import Sequence
from typing import Protocol, TypeVar

import torch

from swarm_client.lanes.outbox import LaneStep
from swarm_client.routing import Hop
from swarm_client.session.hop_session import HopOutput, SessionTerms, StepInputs
from swarm_protocol.dialect import TOKEN_BYTES, Opening
from swarm_protocol.errors import (
    DeadlineExceededError,
    PeerError,
    PeerMisbehavedError,
    PeerRefusedError,
)

Answer = TypeVar("Answer")


class SharedStream(Protocol):
    """What a session needs of its lane."""

    @property
    def dtype(self) -> torch.dtype:
        """Of hidden states, both ways."""

    @property
    def max_step_tokens(self) -> int:
        """Tokens over all rows that one step may have."""

    def open(self, opening: Opening) -> None:
        """Announce a session, with the next frames."""

    def submit(self, step: LaneStep) -> None:
        """Send a step, in one frame with all others of this moment."""

    def cancel(self, session_id: int) -> None:
        """Say that nobody waits for the session's step any more."""

    def leave(self, session_id: int) -> None:
        """Give the session's place up; the server frees its memory."""


class LaneHopSession:
    """A `HopSession` in a lane. The server hears of it with its first step, or by `open`."""

    def __init__(self, lane: SharedStream, hop: Hop, session_id: int, terms: SessionTerms) -> None:
        self._lane = lane
        self._hop = hop
        self._id = session_id
        self._terms = terms
        self._is_announced = False
        self._number = 0  # of the latest step
        self._shape = torch.Size()
        self._opened: asyncio.Future[int] | None = None
        self._output: asyncio.Future[HopOutput] | None = None
        self._failure: PeerError | None = None
        self._has_left = False

    @property
    def session_id(self) -> int:
        """Its number in the lane."""
        return self._id

    @property
    def hop(self) -> Hop:
        """See `HopSession`, as for all that follows."""
        return self._hop

    @property
    def can_roll_back(self) -> bool:
        """In our dialect every step says where it begins."""
        return True

    @property
    def max_step_tokens(self) -> int:
        """As the server said in its hello, and not more than settings allow."""
        return min(self._terms.max_step_tokens, self._lane.max_step_tokens)

    async def open(self, *, prefix_hashes: Sequence[bytes]) -> int:
        """Open the session now, for one row; return the tokens of the prefix that are cached.

        Raises:
            PeerError, DeadlineExceededError: as `step` does.
        """
        self._check_usable()
        self._opened = asyncio.get_running_loop().create_future()
        self._announce(num_rows=1, prefix_hashes=prefix_hashes)
        return await self._wait_for(self._opened)

    async def step(self, inputs: StepInputs, *, position: int) -> HopOutput:
        """Submit one step and wait for its output, which is in the server's dtype."""
        self._check_usable()
        self._shape = inputs.hidden.shape
        num_rows, num_tokens, hidden_size = self._shape
        if num_rows * num_tokens > self._lane.max_step_tokens:  # deep prompts cannot be cut
            raise PeerRefusedError(self._hop.peer, f"{num_tokens} tokens are too many for a step")
        if not self._is_announced:
            self._announce(num_rows=num_rows)
        self._number += 1
        self._output = asyncio.get_running_loop().create_future()
        self._lane.submit(
            LaneStep(
                session_id=self._id,
                number=self._number,
                position=position,
                num_rows=num_rows,
                num_tokens=num_tokens,
                hidden=inputs.hidden.to(self._lane.dtype).reshape(-1, hidden_size),
                prompts=None if inputs.prompts is None else inputs.prompts.to(self._lane.dtype),
                hypo_ids=inputs.hypo_ids,
            )
        )
        return await self._wait_for(self._output)

    async def close(self) -> None:
        """Leave; the server frees the memory when it has read the next frame."""
        self.abandon()

    def abandon(self) -> None:
        """Leave."""
        if not self._has_left:
            self._has_left = True
            self._lane.leave(self._id)

    def take_opened(self, cached_tokens: int) -> None:
        """The server has opened the session."""
        if self._opened is not None and not self._opened.done():
            self._opened.set_result(cached_tokens)

    def take_output(self, number: int, output: HopOutput) -> None:
        """The server has run a step; the output of one that was given up is ignored."""
        if self._output is None or self._output.done() or number != self._number:
            return
        if output.hidden.shape == self._shape:
            self._output.set_result(output)
        else:
            reason = f"expected {list(self._shape)} back, got {list(output.hidden.shape)}"
            self.fail(PeerMisbehavedError(self._hop.peer, reason))

    def fail(self, error: PeerError) -> None:
        """The session has ended: whoever waits learns at once, others with their next step."""
        self._failure = error
        for awaited in (self._opened, self._output):
            if awaited is not None and not awaited.done():
                awaited.set_exception(error)

    def _check_usable(self) -> None:
        assert not self._has_left
        if self._failure is not None:
            raise self._failure

    def _announce(self, *, num_rows: int, prefix_hashes: Sequence[bytes] = ()) -> None:
        self._is_announced = True
        self._lane.open(
            Opening(
                session_id=self._id,
                blocks=self._hop.blocks,
                max_length=self._terms.max_length,
                num_rows=num_rows,
                tenant=self._terms.tenant,
                token=secrets.token_bytes(TOKEN_BYTES),
                adapter=self._terms.active_adapter,
                prefix_hashes=tuple(prefix_hashes),
            )
        )

    async def _wait_for(self, answer: asyncio.Future[Answer]) -> Answer:
        timeout_s = self._terms.step_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError as error:
            raise DeadlineExceededError(
                f"peer {self._hop.peer}: no reply within {timeout_s:g} s"
            ) from error
        finally:
            if answer.cancelled():
                self._lane.cancel(self._id)
