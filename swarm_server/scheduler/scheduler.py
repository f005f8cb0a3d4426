"""Puts the waiting steps of all sessions into batches.

Every batch goes through one range of blocks. It takes every decode that waits for them; prefills
share what is left, about one chunk at most, fairly among tenants. Whoever waits has a turn sooner
or later: ranges take turns, decodes go by age, and tenants by shares.
"""

from typing import Final

from swarm_protocol.identifiers import BlockRange
from swarm_server.scheduler.page_fitting import PageAccounts, fit
from swarm_server.scheduler.tenant_shares import TenantShares
from swarm_server.scheduler.tickets import BatchLimits, BatchPlan, Ticket

_SHARES_PER_CHUNK: Final = 4
"""So many tenants may have a part of one chunk."""

_SLACK: Final = 0.25
"""Of a chunk: what it may take beyond its size to end a prompt instead of cutting it."""


class Scheduler:
    """Holds the tickets of all sessions, at most one of each."""

    def __init__(self, limits: BatchLimits) -> None:
        self._limits = limits
        self._tickets: dict[int, Ticket] = {}  # by session id, the oldest first
        self._newest_id = -1
        self._ranges: list[BlockRange] = []  # whose turn comes first
        self._shares = TenantShares(max(1, limits.chunk_tokens // _SHARES_PER_CHUNK))
        self._decoding: set[int] = set()  # sessions whose last step was a decode
        self._passed_over: set[int] = set()  # sessions without pages, which let others go first

    @property
    def has_work(self) -> bool:
        """Whether a ticket waits that is not being computed."""
        return any(not ticket.num_taken for ticket in self._tickets.values())

    def waiting(self) -> list[Ticket]:
        """Return the tickets that are not being computed, the oldest first."""
        return [ticket for ticket in self._tickets.values() if not ticket.num_taken]

    def add(self, ticket: Ticket) -> None:
        """Take a ticket. Its session has no other; one that was preempted keeps its id."""
        assert ticket.session_id not in self._tickets
        assert ticket.num_left > 0
        self._tickets[ticket.session_id] = ticket
        if ticket.ticket_id > self._newest_id:
            self._newest_id = ticket.ticket_id
        else:  # it was preempted
            by_age = sorted(self._tickets.values(), key=lambda each: each.ticket_id)
            self._tickets = {each.session_id: each for each in by_age}
        if ticket.blocks not in self._ranges:
            self._ranges.append(ticket.blocks)

    def cancel(self, session_id: int) -> None:
        """Forget a session and its ticket, if any."""
        self._decoding.discard(session_id)
        self._drop_ticket_of(session_id)

    def next_batch(self, pages: PageAccounts, *, max_rows: int | None = None) -> BatchPlan:
        """Return what to compute now; call `finished` for each ticket when it is.

        An empty plan means that nothing waits, or that no pages are there for what does.

        Args:
            pages: whose pages it takes.
            max_rows: of decodes, the oldest; None for the limit of all batches.
        """
        most = self._limits.max_rows if max_rows is None else min(max_rows, self._limits.max_rows)
        plan = self._plan(pages, most)
        if not plan.tickets and self._passed_over:
            self._passed_over.clear()
            plan = self._plan(pages, most)
        self._passed_over = {ticket.session_id for ticket in plan.blocked}
        for session_id in plan.preempted:
            self._drop_ticket_of(session_id)
        return plan

    def lone_decode(self) -> Ticket | None:
        """Return the only ticket there is, if it is a decode that waits; `take_whole` takes it.

        Then there is nothing for `next_batch` to choose from: its pages are all that matters.
        """
        if len(self._tickets) != 1:
            return None
        (ticket,) = self._tickets.values()
        return None if ticket.is_prefill or ticket.num_taken else ticket

    def take_whole(self, ticket: Ticket) -> None:
        """Take a ticket without `next_batch`; call `finished` when it is computed."""
        ticket.num_taken = ticket.num_left
        self._passed_over.clear()

    def finished(self, ticket: Ticket) -> None:
        """Note that what was taken of a ticket is computed; one that is done is forgotten."""
        num_left = ticket.num_left = ticket.num_left - ticket.num_taken
        assert num_left >= 0
        ticket.num_taken = 0
        if num_left == 0:
            session_id = ticket.session_id
            if ticket.is_prefill:
                self._decoding.discard(session_id)
            else:
                self._decoding.add(session_id)
            del self._tickets[session_id]

    def check_integrity(self) -> None:
        """Assert what holds between calls."""
        tickets = self._tickets
        assert all(ticket.session_id == session_id for session_id, ticket in tickets.items())
        assert all(0 <= ticket.num_taken <= ticket.num_left > 0 for ticket in tickets.values())
        assert {ticket.blocks for ticket in tickets.values()} <= set(self._ranges)
        assert self._passed_over <= set(tickets)
        ticket_ids = [ticket.ticket_id for ticket in tickets.values()]
        assert ticket_ids == sorted(ticket_ids)

    def _plan(self, pages: PageAccounts, max_rows: int) -> BatchPlan:
        """Return a plan for the first range, in turn, that has something to compute."""
        ready = self._ready_by_range()
        self._ranges = [blocks for blocks in self._ranges if blocks in ready]
        blocked = list[Ticket]()
        for blocks in self._ranges:
            plan = fit(self._choose(ready[blocks], max_rows), pages)
            blocked += plan.blocked
            if plan.tickets:
                self._ranges.remove(blocks)
                self._ranges.append(blocks)
                return BatchPlan(plan.tickets, plan.preempted, blocked)
        return BatchPlan(blocked=blocked)

    def _ready_by_range(self) -> dict[BlockRange, list[Ticket]]:
        """Return what could be computed for each range, the oldest first."""
        waiting = self.waiting()
        if len(self._ranges) == 1 and waiting:  # the common case needs no look at each
            return {self._ranges[0]: waiting}
        ready: dict[BlockRange, list[Ticket]] = {}
        for ticket in waiting:
            ready.setdefault(ticket.blocks, []).append(ticket)
        return ready

    def _choose(self, ready: list[Ticket], max_rows: int) -> list[Ticket]:
        """Take what a batch of these would hold if there were pages enough; return the tickets.

        Decodes come first, the oldest of each kind before others.
        """
        limits = self._limits
        prefills = [ticket for ticket in ready if ticket.is_prefill]
        if not prefills:
            return self._take_decodes(ready, max_rows, limits.max_batch_tokens)
        reserved = min(limits.chunk_tokens, limits.max_batch_tokens // 2)
        decodes = self._take_decodes(ready, max_rows, limits.max_batch_tokens - reserved)
        num_tokens = sum([ticket.num_rows * ticket.num_taken for ticket in decodes])
        num_free = max(reserved, limits.max_batch_tokens - num_tokens)
        budget = min(limits.chunk_tokens, num_free)
        if self._is_lone(prefills[0]):
            budget = num_free = limits.max_batch_tokens
        slack = min(int(_SLACK * limits.chunk_tokens), num_free - budget)
        fresh = [ticket for ticket in prefills if ticket.session_id not in self._passed_over]
        self._shares.take(fresh or prefills, budget, slack=slack)
        return decodes + [ticket for ticket in prefills if ticket.num_taken]

    def _take_decodes(self, ready: list[Ticket], max_rows: int, max_tokens: int) -> list[Ticket]:
        """Take decodes, at least one if there are any."""
        taken, num_rows, num_tokens = list[Ticket](), 0, 0
        for ticket in ready:
            if ticket.is_prefill:
                continue
            num_rows_then = num_rows + ticket.num_rows
            num_tokens_then = num_tokens + ticket.num_rows * ticket.num_left
            if not taken or (num_rows_then <= max_rows and num_tokens_then <= max_tokens):
                ticket.num_taken = ticket.num_left
                taken.append(ticket)
                num_rows, num_tokens = num_rows_then, num_tokens_then
        return taken

    def _is_lone(self, ticket: Ticket) -> bool:
        """Whether no other session waits, or is likely to decode soon."""
        return len(self._tickets) == 1 and self._decoding <= {ticket.session_id}

    def _drop_ticket_of(self, session_id: int) -> None:
        self._tickets.pop(session_id, None)
        self._passed_over.discard(session_id)
