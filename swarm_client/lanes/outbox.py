"""What leaves on a lane next. Pure; knows neither frames nor futures.

Whatever has come together since the last mail leaves in one. Steps wait while as many tokens are
under way as the server wants at most.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from torch import Tensor

from swarm_protocol.dialect import Opening, StepEntry, StepExtras


class LaneStep(NamedTuple):
    """One step of one session, in the form in which it is sent.

    Attributes:
        entry: what goes before the hidden states; its `session_id` is the lane's number for it.
        hidden: `[num_rows, num_tokens, hidden_size]`, in the server's dtype.
        extras: deep prompts of the hop's blocks, in the server's dtype, and the order of rows;
            None for neither.
    """

    entry: StepEntry
    hidden: Tensor
    extras: StepExtras | None = None

    @property
    def size(self) -> int:
        """Tokens over all rows."""
        return self.entry.num_rows * self.entry.num_tokens


class Mail(NamedTuple):
    """What leaves together, in this order; the steps in one frame."""

    cancelled: Sequence[int] = ()
    closed: Sequence[int] = ()
    openings: Sequence[Opening] = ()
    steps: Sequence[LaneStep] = ()


class Outbox:
    """Holds what sessions want to send. A session has one step at a time.

    Attributes:
        max_step_tokens: over all rows of one step.
    """

    def __init__(
        self, *, max_frame_tokens: int, good_frame_tokens: int, max_inflight_tokens: int
    ) -> None:
        """Begin empty.

        Args:
            max_frame_tokens: over all rows of one frame.
            good_frame_tokens: of prompts; with more, a frame has only one of them.
            max_inflight_tokens: of steps that were sent and not answered, >= 2. Half of them are
                for decode steps and half for prefills, so neither waits for the other.
        """
        self.max_step_tokens = min(max_frame_tokens, max_inflight_tokens // 2)
        self._max_frame_tokens = max_frame_tokens
        self._good_frame_tokens = good_frame_tokens
        self._decodes = _Queue(max_inflight_tokens // 2)
        self._prefills = _Queue(max_inflight_tokens // 2)
        self._openings: dict[int, Opening] = {}
        self._cancelled: list[int] = []
        self._closed: list[int] = []

    def open(self, opening: Opening) -> None:
        """Announce a session; its steps may be added at once."""
        self._openings[opening.session_id] = opening

    def add(self, step: LaneStep) -> None:
        """Take in a step of at most `max_step_tokens`."""
        assert step.size <= self.max_step_tokens
        queue = self._decodes if step.entry.num_tokens == 1 else self._prefills
        queue.waiting[step.entry.session_id] = step

    def answered(self, session_ids: Collection[int]) -> int:
        """Steps of these sessions, if any, are no longer under way; return how many tokens were.

        One that still waits does not leave: another server has pushed it meanwhile.
        """
        return self._decodes.answered(session_ids) + self._prefills.answered(session_ids)

    @property
    def has_waiting(self) -> bool:
        """Whether there are steps that have not left."""
        return bool(self._decodes.waiting or self._prefills.waiting)

    def cancel(self, session_id: int) -> None:
        """Nobody waits for the session's step any more; the server hears of it if need be."""
        if self.answered((session_id,)):
            self._cancelled.append(session_id)

    def close(self, session_id: int) -> None:
        """End a session whose step was answered or cancelled."""
        if self._openings.pop(session_id, None) is None:
            self._closed.append(session_id)

    def next_mail(self) -> Mail:
        """Take out what may leave now; empty when nothing may."""
        steps = self._decodes.take(self._max_frame_tokens, self._max_frame_tokens)
        if self._prefills.waiting:
            room = self._max_frame_tokens - sum([step.size for step in steps])
            steps += self._prefills.take(room, self._good_frame_tokens)
        if not (self._cancelled or self._closed or self._openings):  # as nearly always
            return Mail(steps=steps)
        cancelled, self._cancelled = self._cancelled, []
        closed, self._closed = self._closed, []
        openings, self._openings = list(self._openings.values()), {}
        return Mail(cancelled, closed, openings, steps)

    def check_integrity(self) -> None:
        """Assert what holds at any time."""
        self._decodes.check_integrity()
        self._prefills.check_integrity()
        assert not self._decodes.session_ids() & self._prefills.session_ids()


class _Queue:
    """Steps of one kind: waiting ones in order, and the tokens of those under way."""

    def __init__(self, max_inflight_tokens: int) -> None:
        self.waiting: dict[int, LaneStep] = {}
        self._max_inflight_tokens = max_inflight_tokens
        self._inflight: dict[int, int] = {}
        self._num_inflight = 0

    def take(self, max_tokens: int, good_tokens: int) -> list[LaneStep]:
        """Return the first waiting steps that fit; they are under way from now on.

        A step that is not the first must also leave them within `good_tokens`.
        """
        room = most = min(max_tokens, self._max_inflight_tokens - self._num_inflight)
        taken: list[LaneStep] = []
        for session_id, step in self.waiting.items():
            size = step.size
            if size > room or (taken and most - room + size > good_tokens):
                break
            room -= size
            taken.append(step)
            self._inflight[session_id] = size
        self._num_inflight += most - room
        if len(taken) == len(self.waiting):  # as nearly always
            self.waiting.clear()
        else:
            for step in taken:
                del self.waiting[step.entry.session_id]
        return taken

    def answered(self, session_ids: Collection[int]) -> int:
        if self.waiting:
            for session_id in session_ids:
                self.waiting.pop(session_id, None)
        if not self._inflight:
            return 0
        freed = sum([self._inflight.pop(session_id, 0) for session_id in session_ids])
        self._num_inflight -= freed
        return freed

    def session_ids(self) -> set[int]:
        return self.waiting.keys() | self._inflight.keys()

    def check_integrity(self) -> None:
        assert self._num_inflight == sum(self._inflight.values()) <= self._max_inflight_tokens
        assert not self.waiting.keys() & self._inflight.keys()
