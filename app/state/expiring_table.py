"""A bounded dictionary whose entries expire; the caller brings the time. Pure."""

import heapq
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

# Dead heap items tolerated beyond the live ones before the heap is built anew.
_HEAP_SLACK: Final = 64


@dataclass(slots=True)
class _Entry(Generic[V]):
    value: V
    expires_at: float
    serial: int  # of the one heap item that speaks for this entry


class ExpiringTable(Generic[K, V]):
    """Entries live until their time; when the table is full, the one closest to it goes first.

    Time is any number that grows, in one unit of the caller's choice. Entries are purged when
    others are put or counted; a lookup never returns an expired one. Every call costs
    O(log entries), amortised.
    """

    def __init__(self, max_entries: int) -> None:
        self._max_entries = max_entries
        self._entries: dict[K, _Entry[V]] = {}
        self._heap: list[tuple[float, int, K]] = []  # (expires_at, serial, key), soonest first
        self._next_serial = 0

    def put(self, key: K, value: V, *, expires_at: float, now: float) -> None:
        """Add or replace an entry, and make room for it."""
        serial = self._next_serial
        self._next_serial += 1
        self._entries[key] = _Entry(value, expires_at, serial)
        heapq.heappush(self._heap, (expires_at, serial, key))
        self._purge(now)
        self._compact()

    def get(self, key: K, *, now: float) -> V | None:
        """Return the value of a live entry, else None."""
        entry = self._entries.get(key)
        return None if entry is None or entry.expires_at <= now else entry.value

    def remove(self, key: K) -> None:
        """Drop the entry, if there is one."""
        self._entries.pop(key, None)
        self._compact()

    def count(self, *, now: float) -> int:
        """Return the number of live entries."""
        self._purge(now)
        return len(self._entries)

    def check_integrity(self) -> None:
        """Assert the bounds, and that every entry has its heap item."""
        assert len(self._entries) <= self._max_entries
        assert len(self._heap) <= 2 * len(self._entries) + _HEAP_SLACK
        items = {(serial, key) for _, serial, key in self._heap}
        assert all((entry.serial, key) in items for key, entry in self._entries.items())

    def _purge(self, now: float) -> None:
        while self._heap and (self._heap[0][0] <= now or len(self._entries) > self._max_entries):
            _, serial, key = heapq.heappop(self._heap)
            if self._speaks_for_an_entry(serial, key):
                del self._entries[key]

    def _compact(self) -> None:
        if len(self._heap) > 2 * len(self._entries) + _HEAP_SLACK:
            self._heap = [item for item in self._heap if self._speaks_for_an_entry(*item[1:])]
            heapq.heapify(self._heap)

    def _speaks_for_an_entry(self, serial: int, key: K) -> bool:
        entry = self._entries.get(key)
        return entry is not None and entry.serial == serial
