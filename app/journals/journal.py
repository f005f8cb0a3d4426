"""A journal while it is written here: entries, readers, and who waits for whom. No I/O."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from time import monotonic
from typing import Final, Self

from app.journals.bell import Bell
from app.journals.entries import Entry, encode_entry, is_end
from app.journals.notices import Notice
from app.journals.patience import Patience
from app.state.journals import Extension, Lease
from swarm_protocol.errors import SwarmError

_MAX_AHEAD: Final = 64
"""Entries that a run may be ahead of its slowest reader."""
_MAX_MESSAGES: Final = 8


@dataclass(slots=True)  # frozen ones take three times as long to make, and a token makes one
class Reading:
    """What a reader has not seen yet.

    Attributes:
        start: number of the first of `entries`.
        notices: news about the swarm since the last reading, oldest first.
    """

    start: int
    entries: Sequence[Entry]
    notices: Sequence[Notice] = ()

    @property
    def end(self) -> int:
        """Number of the entry that comes next."""
        return self.start + len(self.entries)


Taker = Callable[[Reading], bool]
"""Takes entries while the run writes them, or returns False: then the reader's task gets them.
Must not wait, and not fail, for it is the run that calls it. Never gets notices, nor an end."""


def take_nothing(reading: Reading) -> bool:
    """Leave everything to the reader's task."""
    return False


class Journal:
    """Written by one run, read by any number of connections.

    Attributes:
        id: hard to guess; who knows it (and has the owner's key, if there are keys) may read.
        entries: all so far, oldest first.
        is_kept: whether the store shall have it, now or when it answers again.
        lease: our right to write it down in the store; None while the store does not have it.
        extended_at: when the store last heard of it, on the monotonic clock.
        is_closed: the run has ended here. Unless the last entry is an end, another may go on.
        is_handed_over: the run was stopped so that another worker may go on.
        patience: how long the run goes on that nobody reads.
    """

    def __init__(
        self,
        journal_id: str,
        owner: str,
        entries: Iterable[Entry],
        *,
        lease: Lease | None,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.id = journal_id
        self.owner = owner
        self.entries = list(entries)
        self.is_kept = lease is not None
        self.lease = lease
        self.extended_at = monotonic()
        self.is_closed = False
        self.is_handed_over = False
        self._on_change = on_change
        self._num_stored = len(self.entries)
        self._room_end = 0  # up to there, no reader is far behind
        self._readers: set[Reader] = set()
        self._has_room = Bell()
        self.patience = Patience()

    @cached_property
    def inbox(self) -> asyncio.Queue[str | SwarmError]:
        """What the caller says to the run meanwhile; answers have none."""
        return asyncio.Queue(_MAX_MESSAGES)

    @cached_property
    def closed(self) -> asyncio.Event:
        """Set with `is_closed`; made when somebody waits, for it holds 0.8 KiB."""
        return asyncio.Event()

    @property
    def has_readers(self) -> bool:
        """Whether a connection reads it now."""
        return bool(self._readers)

    @property
    def has_pending(self) -> bool:
        """Whether the store does not have all entries."""
        return self.is_kept and self._num_stored < len(self.entries)

    def append(self, *entries: Entry) -> None:
        """Write entries down; all of them reach the store together, or none."""
        self.entries += entries
        self._wake()
        self._on_change()

    def notify(self, notice: Notice) -> None:
        """Tell those who read now; a notice is not an entry, and nobody gets it later."""
        for reader in self._readers:
            reader.notices.append(notice)
        self._wake()

    @property
    def has_room(self) -> bool:
        """Whether the last look at the readers allows one more entry; else `wait_room` looks."""
        return len(self.entries) <= self._room_end

    async def wait_room(self) -> None:
        """Wait while the slowest reader is far behind; without readers, go on."""
        while not self.has_room:
            self._room_end = self._slowest() + _MAX_AHEAD
            if not self.has_room:
                await self._has_room.wait()

    def close(self) -> None:
        """Note that nothing more is written here."""
        self.is_closed = True
        self.closed.set()
        self._wake()

    def interrupt(self, *, is_handed_over: bool = False) -> None:
        """Make the run stop."""
        self.is_handed_over |= is_handed_over
        self.patience.end()

    def reading(self, start: int, take_now: Taker = take_nothing) -> "Reader":
        """Return what reads from number `start` on, in a `with` block."""
        return Reader(self, start, take_now)

    def add_reader(self, reader: "Reader") -> None:
        """Tell a reader from now on; called by itself."""
        self._readers.add(reader)
        self.patience.note_readers(has_readers=True)

    def remove_reader(self, reader: "Reader") -> None:
        """Wait for a reader no longer; called by itself."""
        self._readers.discard(reader)
        self.patience.note_readers(has_readers=self.has_readers)
        self._has_room.ring()

    def pending(self, *, is_last: bool = False) -> Extension:
        """Return what the store does not have."""
        assert self.lease is not None
        entries = tuple(encode_entry(entry) for entry in self.entries[self._num_stored :])
        return Extension(self.lease, self._num_stored, entries, is_last)

    def note_stored(self, num_entries: int) -> None:
        """Note how many entries the store has."""
        self._num_stored = min(num_entries, len(self.entries))

    def note_read(self) -> None:
        """Note that a reader has moved on."""
        self._has_room.ring()

    def _slowest(self) -> int:
        positions = (reader.position for reader in self._readers)
        return min(positions, default=len(self.entries))

    def _wake(self) -> None:
        for reader in self._readers:
            reader.wake()


@dataclass(slots=True, eq=False)
class Reader:
    """One connection's place in a journal, for the length of a `with` block.

    Attributes:
        position: number of the next entry.
        is_waiting: its task has passed on all that it was given.
    """

    journal: Journal
    position: int
    take_now: Taker = take_nothing
    is_waiting: bool = False
    notices: list[Notice] = field(default_factory=list)
    _news: Bell = field(default_factory=Bell)

    def __enter__(self) -> Self:
        self.journal.add_reader(self)
        return self

    def __exit__(self, *error: object) -> None:
        self.journal.remove_reader(self)

    async def next(self) -> Reading | None:
        """Wait for something new and return it; None when the journal is closed here."""
        entries = self.journal.entries
        while self.position >= len(entries) and not self.notices:
            if self.journal.is_closed:
                return None
            self.is_waiting = True
            await self._news.wait()
            self.is_waiting = False
        reading = Reading(self.position, entries[self.position :], tuple(self.notices))
        self.position = len(entries)
        self.notices.clear()
        self.journal.note_read()
        return reading

    def wake(self) -> None:
        """Pass on what is new: at once if that can be, else by the reader's task."""
        if not self._is_taken_now():
            self._news.ring()

    def _is_taken_now(self) -> bool:
        """A waiting reader has passed on everything before its position."""
        entries = self.journal.entries
        if not self.is_waiting or self.notices or self.position >= len(entries):
            return False
        if is_end(entries[-1]) or not self.take_now(
            Reading(self.position, entries[self.position :])
        ):
            return False
        self.position = len(entries)
        return True
