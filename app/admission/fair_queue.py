"""Who is next: start-time fair queueing between tenants, weighted. Pure.

Each tenant has a line of its own; within it, who came first is next. Between lines, virtual time
decides: a ticket starts where its tenant's last one ended, or now if that is later, and ends
`cost / weight` behind its start. The earliest start is next, and virtual time goes there.

    A, weight 1   │ 0 ─────── 10 │ 10 ────── 20 │       tickets of cost 10
    B, weight 2   │ 0 ── 5 │ 5 ── 10 │ 10 ─ 15 │        next: A B B A B B …

So tenants that always have somebody waiting get shares by weight, whatever the others ask for, and
one that comes back after a pause is neither punished nor owed anything.

Source: Goyal, Vin, Cheng: Start-time Fair Queuing, SIGCOMM 1996.
"""

from collections import deque
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

_MAX_IDLE_TENANTS: Final = 1024


class Refusal(Enum):
    """Why nobody can be added."""

    QUEUE_FULL = auto()
    TENANT_FULL = auto()


@dataclass(frozen=True, slots=True, eq=False)
class Ticket:
    """A place in the queue; `deadline` is on the caller's clock."""

    tenant: str
    cost: float
    weight: float
    deadline: float


@dataclass(slots=True)
class _Line:
    """A tenant's tickets, oldest first, and when the first of them starts in virtual time."""

    start: float
    tickets: deque[Ticket] = field(default_factory=deque)


class FairQueue:
    """Waiting requests of many tenants.

    Args:
        max_waiting: tickets that wait at once.
        max_per_tenant: of one tenant.
    """

    def __init__(self, max_waiting: int, max_per_tenant: int) -> None:
        self._max_waiting = max_waiting
        self._max_per_tenant = max_per_tenant
        self._now = 0.0  # virtual
        self._lines: dict[str, _Line] = {}
        self._ends: dict[str, float] = {}  # of tenants without a line, when their last ticket ends
        self._num_waiting = 0

    def __len__(self) -> int:
        """Return how many tickets wait."""
        return self._num_waiting

    def refusal(self, tenant: str) -> Refusal | None:
        """Tell why this tenant can have no ticket; None if it can."""
        line = self._lines.get(tenant)
        if line is not None and len(line.tickets) >= self._max_per_tenant:
            return Refusal.TENANT_FULL
        return Refusal.QUEUE_FULL if self._num_waiting >= self._max_waiting else None

    def add(self, ticket: Ticket) -> None:
        """Put a ticket at the end of its tenant's line, whether that is full or not."""
        line = self._lines.get(ticket.tenant)
        if line is None:
            start = max(self._now, self._ends.pop(ticket.tenant, 0.0))
            line = self._lines[ticket.tenant] = _Line(start)
        line.tickets.append(ticket)
        self._num_waiting += 1

    def pop(self, now: float) -> Ticket | None:
        """Take out who is next; None if nobody waits. Tickets past their deadline are dropped."""
        while self._lines:
            line = min(self._lines.values(), key=lambda line: line.start)  # of equals, the oldest
            ticket = line.tickets[0]
            is_late = ticket.deadline <= now
            if not is_late:
                self._now = line.start
                line.start += ticket.cost / ticket.weight
            self.cancel(ticket)
            if not is_late:
                return ticket
        return None

    def cancel(self, ticket: Ticket) -> None:
        """Take out a ticket, if it waits; its tenant is not charged for it."""
        line = self._lines.get(ticket.tenant)
        if line is None or ticket not in line.tickets:
            return
        line.tickets.remove(ticket)
        self._num_waiting -= 1
        if not line.tickets:
            del self._lines[ticket.tenant]
            self._ends[ticket.tenant] = line.start
            self._forget()

    def check_integrity(self) -> None:
        """Assert the count, that each tenant is known once, and that few are known."""
        assert self._num_waiting == sum(len(line.tickets) for line in self._lines.values())
        assert all(line.tickets for line in self._lines.values())
        assert not self._lines.keys() & self._ends.keys()
        assert len(self._ends) <= _MAX_IDLE_TENANTS

    def _forget(self) -> None:
        """When too many tenants without a line are known, forget those whose time has passed."""
        if len(self._ends) > _MAX_IDLE_TENANTS:
            self._ends = {name: end for name, end in self._ends.items() if end > self._now}
        if len(self._ends) > _MAX_IDLE_TENANTS:
            self._ends.clear()
