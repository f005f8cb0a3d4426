"""A hop's session in our own dialect: a place in a stream that many sessions share.

Knows what a step becomes on the lane, and checks what comes back; knows no frames.
"""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import blake2b
from itertools import count
from time import monotonic
from typing import Final, NamedTuple, TypeVar

from torch import Tensor

from swarm_client.errors import SessionClosedError
from swarm_client.lanes.outbox import LaneStep
from swarm_client.lanes.shared_stream import SharedStream
from swarm_client.routing import Hop
from swarm_client.session.hop_session import HopOutput, SessionTerms, StepInputs
from swarm_protocol.dialect import (
    HASH_BYTES,
    MAX_PREFIX_HASHES,
    ONLY_LAST,
    TOKEN_BYTES,
    WANTS_PUSH,
    Opening,
    OutputEntry,
    PushTarget,
    StepEntry,
    StepExtras,
    hash_prefixes,
)
from swarm_protocol.errors import (
    DeadlineExceededError,
    PeerMisbehavedError,
    PeerRefusedError,
    SwarmError,
)

Answer = TypeVar("Answer")


class ExpectedStep(NamedTuple):
    """A step that the server has, or is about to be sent.

    Attributes:
        number, position: of the step.
        num_rows, num_tokens: of its hidden states, and of the output.
        only_last: the output may be that of each row's last token only.
        output: to be.
    """

    number: int
    position: int
    num_rows: int
    num_tokens: int
    only_last: bool
    output: asyncio.Future[HopOutput]

    def is_answered_by(self, entry: OutputEntry) -> bool:
        """Tell whether an output has the rows and tokens that were asked for."""
        if entry.num_rows != self.num_rows:
            return False
        if entry.flags & ONLY_LAST:
            last = self.position + self.num_tokens - 1
            return self.only_last and entry.num_tokens == 1 and entry.position == last
        return entry.num_tokens == self.num_tokens


class LaneHopSession:
    """A `HopSession` in a lane. The server hears of it when it is used.

    Attributes:
        session_id: its number in the lane.
        numbers: of steps to come; the server takes larger ones only. Sessions whose servers push
            steps to each other share them.
        push_target: where the server is to send outputs of steps that want it. To be set before
            it is used.
        hop: see `HopSession`, as for the next two.
        can_roll_back: in our dialect every step says where it begins.
        max_step_tokens: as the server said in its hello, and not more than settings allow.
        is_usable: it has neither failed nor been left.
        opened_at: when the server said that it had memory for it; 0 before.
    """

    can_roll_back: Final = True

    def __init__(self, lane: SharedStream, hop: Hop, session_id: int, terms: SessionTerms) -> None:
        self.session_id = session_id
        self.numbers = count(1)
        self.push_target: PushTarget | None = None
        self.hop = hop
        self.max_step_tokens = min(terms.max_step_tokens, lane.max_step_tokens)
        self.is_usable = True
        self.opened_at = 0.0
        self._lane = lane
        self._loop = asyncio.get_running_loop()
        self._terms = terms
        self._token = secrets.token_bytes(TOKEN_BYTES)
        self._is_announced = False
        self._opened: asyncio.Future[int] | None = None
        self._expected: dict[int, ExpectedStep] = {}  # by number
        self._failure: SwarmError | None = None
        self._has_left = False

    @property
    def may_queue(self) -> bool:
        """The server says when it has opened the session: then there is memory for all of it."""
        return not self.opened_at

    @property
    def step_flags(self) -> int:
        """Of steps, that the server heeds."""
        return self._lane.step_flags

    def as_target(self) -> PushTarget:
        """Return how the server before has to address steps for it."""
        return PushTarget(self.hop.peer, self._token, self.hop.blocks)

    async def match_prefix(self, token_ids: Sequence[int]) -> int:
        """Open the session now, for one row, if there is a whole page to ask for."""
        if not self.is_usable:
            raise self._reason()
        if self._is_announced:
            return 0
        salt = blake2b(self._terms.tenant.encode(), digest_size=HASH_BYTES).digest()
        page_size = self._lane.page_size
        hashes = hash_prefixes(token_ids[: MAX_PREFIX_HASHES * page_size], page_size, salt)
        if not hashes:
            return 0
        self._opened = self._loop.create_future()
        self._announce(num_rows=1, prefix_hashes=hashes)
        num_cached = await self.wait_for(self._opened)
        if num_cached > len(token_ids):
            raise PeerMisbehavedError(self.hop.peer, f"it cannot hold {num_cached} tokens")
        return num_cached

    async def step(self, inputs: StepInputs, *, position: int) -> HopOutput:
        """Submit one step and wait for its output, which is in the server's dtype."""
        expected = self.expect(next(self.numbers), position, inputs)
        self.submit(inputs, expected)
        return await self.wait_for(expected.output)

    def expect(self, number: int, position: int, inputs: StepInputs) -> ExpectedStep:
        """Expect the output of a step, of which the server hears soon.

        Args:
            number: larger than those before.
            position: of the first token.
            inputs: of the step, or of the same one at the server that pushes it.

        Raises:
            PeerError: the session has failed, or the step is too large.
            SessionClosedError: it was left.
        """
        if not self.is_usable:
            raise self._reason()
        num_rows, num_tokens = inputs.num_rows, inputs.num_tokens
        if inputs.size > self._lane.max_step_tokens:  # deep prompts cannot be cut
            raise PeerRefusedError(self.hop.peer, f"{num_tokens} tokens are too many for a step")
        if not self._is_announced:
            self._announce(num_rows=num_rows)
        output: asyncio.Future[HopOutput] = self._loop.create_future()
        only_last = inputs.only_last_at == self.hop.blocks.end
        expected = ExpectedStep(number, position, num_rows, num_tokens, only_last, output)
        self._expected[number] = expected
        return expected

    def submit(
        self, inputs: StepInputs, step: ExpectedStep, row: Sequence["LaneHopSession"] = ()
    ) -> None:
        """Send a step that is expected; servers push it on to those of `row`, one after another."""
        hidden, prompts, hypo_ids = inputs.hidden, inputs.prompts, inputs.hypo_ids
        number, position, num_rows, num_tokens, *_ = step
        flags = WANTS_PUSH if row else 0
        if num_tokens > 1 and inputs.only_last_at is not None:
            flags |= _only_last_flag(inputs.only_last_at, (self, *row))
        entry = StepEntry(self.session_id, number, position, num_rows, num_tokens, flags)
        dtype = self._lane.dtype
        if hidden.dtype != dtype:
            hidden = hidden.to(dtype)
        extras = None
        if prompts is not None or hypo_ids is not None:
            extras = StepExtras(hypo_ids, None if prompts is None else prompts.to(dtype))
        self._lane.submit(LaneStep(entry, hidden, extras))

    async def wait_for(
        self,
        answer: asyncio.Future[Answer],
        patience_s: float = 0.0,
        on_late: Callable[[], None] | None = None,
    ) -> Answer:
        """Wait for an answer of the server; see `step`.

        Args:
            answer: to be.
            patience_s: after which `on_late` is called, if given; at most the time for a step,
                which begins then.
            on_late: sends what another server should have sent.
        """
        if answer.done():
            return answer.result()
        deadlines = self._lane.deadlines
        if on_late is None:
            deadlines.set(answer, self._terms.step_timeout_s, self._expire)
        else:
            patience_s = min(patience_s, self._terms.step_timeout_s)
            deadlines.set(answer, patience_s, partial(self._be_late, on_late))
        try:
            return await answer
        finally:
            deadlines.drop(answer)
            if answer.cancelled():
                self._lane.cancel(self.session_id)

    async def close(self) -> None:
        """Leave; the server frees the memory when it has read the next frame."""
        self.abandon()

    def abandon(self) -> None:
        """Leave; whoever waits learns at once."""
        if not self._has_left:
            self._has_left = True
            self.fail(SessionClosedError())
            self._lane.leave(self.session_id)

    def take_opened(self, cached_tokens: int) -> None:
        """The server has opened the session."""
        self.opened_at = monotonic()
        if self._opened is not None and not self._opened.done():
            self._opened.set_result(cached_tokens)

    def take_output(self, entry: OutputEntry, hidden: Tensor) -> None:
        """The server has run a step; the output of one that was given up is ignored."""
        expected = self._expected.pop(entry.step, None)
        if expected is None or expected.output.done():
            return
        if expected.is_answered_by(entry):
            output = HopOutput(hidden, entry.queue_us / 1e3, entry.compute_us / 1e3)
            expected.output.set_result(output)
        else:
            self._expected[entry.step] = expected
            wanted = f"{expected.num_rows} rows of {expected.num_tokens} tokens"
            got = f"{entry.num_rows} of {entry.num_tokens}"
            self.fail(PeerMisbehavedError(self.hop.peer, f"expected {wanted} back, got {got}"))

    def fail(self, error: SwarmError) -> None:
        """The session has ended: whoever waits learns at once, others with their next step."""
        self._failure, self.is_usable = error, False
        outputs = [expected.output for expected in self._expected.values()]
        self._expected.clear()
        for awaited in (self._opened, *outputs):
            if awaited is not None and not awaited.done():
                awaited.set_exception(error)
                awaited.exception()  # nobody has to ask: steps to come are told as well

    def _be_late(self, on_late: Callable[[], None], answer: asyncio.Future[Answer]) -> None:
        self._lane.deadlines.set(answer, self._terms.step_timeout_s, self._expire)
        on_late()

    def _expire(self, answer: asyncio.Future[Answer]) -> None:
        if not answer.done():
            reason = f"no reply within {self._terms.step_timeout_s:g} s"
            answer.set_exception(DeadlineExceededError(f"peer {self.hop.peer}: {reason}"))
            self._lane.cancel(self.session_id)

    def _reason(self) -> SwarmError:
        """Return why it is not usable."""
        assert self._failure is not None
        return self._failure

    def _announce(self, *, num_rows: int, prefix_hashes: Sequence[bytes] = ()) -> None:
        self._is_announced = True
        self._lane.open(
            Opening(
                session_id=self.session_id,
                blocks=self.hop.blocks,
                max_length=self._terms.max_length,
                num_rows=num_rows,
                token=self._token,
                tenant=self._terms.tenant,
                adapter=self._terms.active_adapter,
                wait_s=self._terms.kv_wait_s,
                prefix_hashes=tuple(prefix_hashes),
                push_to=self.push_target,
            )
        )


def _only_last_flag(only_last_at: int, row: Sequence[LaneHopSession]) -> int:
    """Return the flag of a step, if its row ends where only the last token is wanted.

    All servers must know it: each hands it on to the next.
    """
    is_known = row[-1].hop.blocks.end == only_last_at and all(
        session.step_flags & ONLY_LAST for session in row
    )
    return ONLY_LAST if is_known else 0
