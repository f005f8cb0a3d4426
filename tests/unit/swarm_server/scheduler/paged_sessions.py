"""A server's sessions reduced to numbers: what they hold, and what they wait for."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from swarm_protocol.identifiers import BlockRange
from swarm_server.scheduler import BatchPlan, Holding, Scheduler, Ticket

BLOCKS = BlockRange(0, 4)
PAGE_SIZE = 4


def ticket(
    number: int,
    num_tokens: int = 1,
    *,
    session_id: int | None = None,
    tenant: str = "one",
    blocks: BlockRange = BLOCKS,
    num_rows: int = 1,
) -> Ticket:
    """Return a ticket of the session of the same number; a decode if it has one token."""
    return Ticket(
        number,
        number if session_id is None else session_id,
        tenant,
        blocks,
        num_rows,
        num_tokens,
        is_prefill=num_tokens > 1,
    )


class EndlessPages:
    """Accounts of a server that never runs out."""

    num_available = 1 << 30

    def num_needed(self, tickets: Sequence[Ticket]) -> int:
        return sum(ticket.num_taken for ticket in tickets)

    def holdings(self) -> Sequence[Holding]:
        return ()


def run_batch(scheduler: Scheduler) -> dict[int, int]:
    """Run one batch with pages for all; return the tokens of each ticket, of one row."""
    plan = scheduler.next_batch(EndlessPages())
    taken = {ticket.ticket_id: ticket.num_taken for ticket in plan.tickets}
    for ticket in plan.tickets:
        scheduler.finished(ticket)
    return taken


@dataclass
class PagedSession:
    """A session that has `length` tokens in its pages, `position` of them for good."""

    session_id: int
    position: int = 0
    length: int = 0
    num_wanted: int = 0
    ticket_id: int = 0
    is_resting: bool = False


@dataclass
class PagedSessions:
    """Sessions on a pool of pages, which run what a scheduler plans as an engine would."""

    scheduler: Scheduler
    num_pages: int
    sessions: dict[int, PagedSession] = field(default_factory=dict)
    _num_tickets: int = 0

    @property
    def num_available(self) -> int:
        return self.num_pages - sum(_pages(s.length) for s in self.sessions.values())

    def num_needed(self, tickets: Sequence[Ticket]) -> int:
        lengths = [(self.sessions[each.session_id].length, each.num_taken) for each in tickets]
        return sum(_pages(length + num_new) - _pages(length) for length, num_new in lengths)

    def holdings(self) -> Sequence[Holding]:
        return [
            Holding(s.session_id, _pages(s.length), s.is_resting) for s in self.sessions.values()
        ]

    def submit(self, session_id: int, num_tokens: int) -> None:
        """Let a session make a step."""
        session = self.sessions.setdefault(session_id, PagedSession(session_id))
        self._num_tickets += 1
        session.num_wanted, session.ticket_id = num_tokens, self._num_tickets
        session.is_resting = False
        self._add(session)

    def close(self, session_id: int) -> None:
        """End a session."""
        self.scheduler.cancel(session_id)
        self.sessions.pop(session_id, None)

    def run_batch(self) -> BatchPlan:
        """Run one batch."""
        plan = self.scheduler.next_batch(self)
        for session_id in plan.preempted:
            session = self.sessions[session_id]
            session.length = 0
            if session.num_wanted > 0:
                self._add(session)
        for ticket in plan.tickets:
            self._run(ticket, self.sessions[ticket.session_id])
        assert self.num_available >= 0
        self.scheduler.check_integrity()
        return plan

    def _run(self, ticket: Ticket, session: PagedSession) -> None:
        assert ticket.ticket_id == session.ticket_id
        session.length += ticket.num_taken
        self.scheduler.finished(ticket)
        if session.length == session.position + session.num_wanted:
            session.position, session.num_wanted = session.length, 0

    def _add(self, session: PagedSession) -> None:
        num_tokens = session.position + session.num_wanted - session.length
        self.scheduler.add(ticket(session.ticket_id, num_tokens, session_id=session.session_id))


def _pages(length: int) -> int:
    return -(-length // PAGE_SIZE)
