"""One session on a stream: its steps in their order, each once, whoever sends it.

    STEPS or PUSHED ──> waiting ──> engine ──> outputs ──> caller, and the next server

Knows no frames and no streams.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from swarm_protocol.dialect import ONLY_LAST, Opening
from swarm_protocol.errors import SwarmError
from swarm_server.engine.serving.requests import StepResult
from swarm_server.handlers.dialect.engine import ComputedSession
from swarm_server.handlers.dialect.failures import presentable
from swarm_server.handlers.dialect.inflight import InflightTokens
from swarm_server.handlers.dialect.lane_step import LaneStep


class SessionOwner(Protocol):
    """The stream that a session belongs to."""

    def deliver(self, session: "LaneSession", step: LaneStep, result: StepResult) -> None:
        """Outputs are there."""

    def fail(self, session: "LaneSession", error: SwarmError) -> None:
        """The session cannot go on; `close` it."""


class LaneSession:
    """Takes steps from the moment it is asked for; computes them once `begin` was called."""

    def __init__(self, opening: Opening, owner: SessionOwner, inflight: InflightTokens) -> None:
        """Begin without steps.

        Args:
            opening: what was asked for.
            owner: gets all that comes of it.
            inflight: counts the tokens of steps that were taken and not yet delivered.
        """
        self.opening = opening
        self.is_closed = False
        self.opened_at = 0.0  # loop clock, kept by the owner, as the next
        self.idle_since = 0.0
        self._owner = owner
        self._inflight = inflight
        self._computed: ComputedSession | None = None
        self._release: Callable[[], None] = _do_nothing
        self._waiting: deque[LaneStep] = deque()
        self._running: LaneStep | None = None
        self._is_wanted = True  # the outputs of the running step
        self._last_number = -1

    @property
    def has_begun(self) -> bool:
        """Whether it is open."""
        return self._computed is not None

    @property
    def is_idle(self) -> bool:
        """Whether it is the client's turn."""
        return self._computed is not None and self._running is None

    @property
    def end(self) -> int:
        """Position after all steps that were taken."""
        if self._waiting:
            return self._waiting[-1].end
        if self._running is not None:
            return self._running.end
        return 0 if self._computed is None else self._computed.position

    def begin(
        self,
        computed: ComputedSession,
        prefix_hashes: Sequence[bytes],
        release: Callable[[], None],
    ) -> int:
        """Let steps run; return how many tokens of the prefix are there already.

        Args:
            computed: the session in the engine.
            prefix_hashes: of the prompt, in the names of the server.
            release: called when it has given its memory back.
        """
        self._computed, self._release = computed, release
        cached_tokens = computed.match_prefix(prefix_hashes)
        if self._waiting:
            self._run_next(computed)
        return cached_tokens

    def take(self, step: LaneStep) -> None:
        """Take a step of the client; one whose number is not new has come from elsewhere."""
        entry = step.entry
        if entry.step <= self._last_number:
            return
        self._last_number = entry.step
        if entry.num_tokens > 1 and entry.flags & ONLY_LAST and self.opening.push_to is None:
            step = step._replace(only_last=True)
        self._inflight.add(step.size)
        self._waiting.append(step)
        if self._running is None and self._computed is not None:
            self._run_next(self._computed)

    def take_pushed(self, step: LaneStep) -> None:
        """Take a step of the server before us, unless it comes late, too early, or amid a flood.

        The client sends its own copy of what is not taken.
        """
        if step.entry.position <= self.end and not self._inflight.is_full:
            self.take(step)

    def cancel(self) -> None:
        """Answer no step that was taken so far; what does not run yet never will."""
        self._drop_waiting()
        self._is_wanted = False

    def close(self) -> None:
        """End the session; its memory is back when no batch uses it. Idempotent."""
        if self.is_closed:
            return
        self.is_closed = True
        self._drop_waiting()
        if self._computed is not None:
            self._computed.close(self._release)

    def _drop_waiting(self) -> None:
        for step in self._waiting:
            self._inflight.remove(step.size)
        self._waiting.clear()

    def _run_next(self, computed: ComputedSession) -> None:
        """Let the first of the waiting steps run; none does."""
        step = self._waiting.popleft()
        try:
            computed.begin_step(step, position=step.entry.position, on_done=self._finished)
        except SwarmError as error:
            self._inflight.remove(step.size)
            self._owner.fail(self, error)
            return
        self._running, self._is_wanted = step, True

    def _finished(self, outcome: StepResult | BaseException) -> None:
        """Hear how the running step has ended; in `close`, that it never will."""
        step, self._running = self._running, None
        assert step is not None
        assert self._computed is not None
        if self.is_closed:
            self._inflight.remove(step.size)
        elif not isinstance(outcome, StepResult):
            self._inflight.remove(step.size)
            self._owner.fail(self, presentable(outcome))
        else:
            if self._is_wanted:
                self._owner.deliver(self, step, outcome)
            else:
                self._inflight.remove(step.size)
            if self._waiting:
                self._run_next(self._computed)


def _do_nothing() -> None:
    pass
