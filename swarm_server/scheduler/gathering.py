"""When to begin a batch of decodes: at once, or when more of those that are due have come.

A batch of eight rows costs little more than one of a single row, so sessions that decode at the
same time should go through the span in few groups. Two are enough to keep two servers at work:

    server a   [1 2 3 4][5 6 7 8][1 2 3 4] …        left to themselves, sessions that came one by
    server b            [1 2 3 4][5 6 7 8] …        one stay in groups of one or two for ever

So a batch with less than half of the sessions that are decoding waits for others, for at most the
time that a batch takes: the next group is no farther away. Groups that have met stay together, so
the wait is paid once. Who decodes alone never waits.

And sessions that all come at once are parted, if they are away for longer than a batch takes: then
somebody else has work for half of them while the other half is here. Pure: has no clock of its own.
"""

from collections.abc import Mapping
from typing import Final

_NUM_GROUPS: Final = 2
_MAX_WAIT: Final = 1.0
"""In batches."""

_MAX_AWAY_S: Final = 1.0
"""A session that has been away for so long is not decoding, whatever others do."""

_MIN_PARTED: Final = 4
"""Rows; fewer cost almost as much apart as together."""

_SMOOTHING: Final = 0.2


class Gathering:
    """Knows which sessions have just been here, and so will soon be here again."""

    def __init__(self) -> None:
        self._away: dict[int, tuple[int, float]] = {}  # session id -> rows, since when; in order
        self._turnaround_s = 0.0
        self._batch_s = 0.0

    def came(self, session_id: int, now: float) -> None:
        """A session has brought its next step."""
        _, since = self._away.pop(session_id, (0, now))
        away_s = now - since
        if 0.0 < away_s < _MAX_AWAY_S:
            self._turnaround_s += _SMOOTHING * (away_s - self._turnaround_s)

    def went(self, rows: Mapping[int, int], now: float) -> None:
        """Steps of some sessions are done: of which, and their rows; those that go on come back."""
        self._away.update({session_id: (num_rows, now) for session_id, num_rows in rows.items()})

    def left(self, session_id: int) -> None:
        """A session has ended."""
        self._away.pop(session_id, None)

    def batch_finished(self, took_s: float) -> None:
        """A batch has taken so long."""
        self._batch_s += _SMOOTHING * (took_s - self._batch_s)

    def expects_more(self, now: float) -> bool:
        """Whether a session is away that should be back."""
        self._forget(now)
        return bool(self._away)

    def begin_at(self, num_ready: int, ready_since: float, now: float) -> float:
        """Return when to begin a batch; a time that is not after `now` means at once.

        Args:
            num_ready: rows of decodes that could go into it.
            ready_since: when the first of them came.
            now: reading of the same clock.
        """
        self._forget(now)
        num_due = sum([num_rows for num_rows, _ in self._away.values()])
        if num_ready * _NUM_GROUPS >= num_ready + num_due:
            return now
        return ready_since + _MAX_WAIT * self._batch_s

    def rows_to_take(self, num_ready: int, now: float) -> int:
        """Return how many rows of decodes a batch should take of `num_ready`, when none runs."""
        is_long_away = 0.0 < self._batch_s <= self._turnaround_s
        if num_ready < _MIN_PARTED or not is_long_away or self.expects_more(now):
            return num_ready
        return -(-num_ready // _NUM_GROUPS)

    def _forget(self, now: float) -> None:
        """Forget who has been away for too long; the first are those that went first."""
        limit_s = min(_MAX_AWAY_S, 2 * self._turnaround_s + self._batch_s)
        away = self._away
        while away:
            session_id, (_, since) = next(iter(away.items()))
            if now - since <= limit_s:
                break
            del away[session_id]
