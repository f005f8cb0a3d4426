"""Puts the waiting steps of all sessions into batches.

Every batch goes through one range of blocks. It takes every decode that waits for them; prefills
share what is left, about one chunk at most, fairly among tenants. Whoever waits has a turn sooner
or later: ranges take turns, decodes go by age, and tenants by shares.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from swarm_protocol.identifiers import BlockRange
from swarm_server.scheduler.page_fitting import PageAccounts, fit
from swarm_server.scheduler.tenant_shares import Demand, TenantShares
from swarm_server.scheduler.tickets import BatchLimits, BatchPlan, Slice, Ticket

_SHARES_PER_CHUNK: Final = 4
"""So many tenants may have a part of one chunk."""

_SLACK: Final = 0.25
"""Of a chunk: what it may take beyond its size to end a prompt instead of cutting it."""


@dataclass(slots=True)
class _Waiting:
    ticket: Ticket
    num_left: int
    is_running: bool = False


class Scheduler:
    """Holds the tickets of all sessions, at most one of each."""

    def __init__(self, limits: BatchLimits) -> None:
        self._limits = limits
        self._waiting: dict[int, _Waiting] = {}  # by ticket id, in this order
        self._ticket_ids: dict[int, int] = {}  # by session id
        self._ranges: list[BlockRange] = []  # whose turn comes first
        self._shares = TenantShares(max(1, limits.chunk_tokens // _SHARES_PER_CHUNK))
        self._decoding: set[int] = set()  # sessions whose last step was a decode
        self._passed_over: set[int] = set()  # prefills without pages, which let others go first

    @property
    def has_work(self) -> bool:
        """Whether a ticket waits that is not being computed."""
        return any(not waiting.is_running for waiting in self._waiting.values())

    def add(self, ticket: Ticket) -> None:
        """Take a ticket. Its session has no other; one that was preempted keeps its id."""
        ticket_id, waiting = ticket.ticket_id, self._waiting
        assert ticket.session_id not in self._ticket_ids
        assert ticket.num_tokens > 0
        is_last = not waiting or ticket_id > next(reversed(waiting))
        waiting[ticket_id] = _Waiting(ticket, ticket.num_tokens)
        if not is_last:  # it was preempted
            self._waiting = dict(sorted(waiting.items()))
        self._ticket_ids[ticket.session_id] = ticket_id
        if ticket.blocks not in self._ranges:
            self._ranges.append(ticket.blocks)

    def cancel(self, session_id: int) -> None:
        """Forget a session and its ticket, if any."""
        self._decoding.discard(session_id)
        self._drop_ticket_of(session_id)

    def next_batch(self, pages: PageAccounts, *, max_rows: int | None = None) -> BatchPlan:
        """Return what to compute now; call `finished` for each slice when it is.

        An empty plan means that nothing waits, or that no pages are there for what does.

        Args:
            pages: whose pages it takes.
            max_rows: of decodes, the oldest; None for the limit of all batches.
        """
        most = self._limits.max_rows if max_rows is None else min(max_rows, self._limits.max_rows)
        plan = self._plan(pages, most)
        if not plan.slices and self._passed_over:
            self._passed_over.clear()
            plan = self._plan(pages, most)
        self._passed_over = set(plan.blocked)
        for chosen in plan.slices:
            self._waiting[chosen.ticket_id].is_running = True
        for session_id in plan.preempted:
            self._drop_ticket_of(session_id)
        return plan

    def finished(self, ticket_id: int, num_tokens: int) -> None:
        """Note that a slice of so many tokens is done; a ticket that is done is forgotten."""
        waiting = self._waiting[ticket_id]
        num_left = waiting.num_left - num_tokens
        assert waiting.is_running
        assert 0 <= num_left <= waiting.num_left
        waiting.is_running = False
        waiting.num_left = num_left
        if num_left == 0:
            session_id = waiting.ticket.session_id
            if waiting.ticket.cost_class == "decode":
                self._decoding.add(session_id)
            else:
                self._decoding.discard(session_id)
            self._drop_ticket_of(session_id)

    def check_integrity(self) -> None:
        """Assert what holds between calls."""
        tickets = [waiting.ticket for waiting in self._waiting.values()]
        assert {ticket.session_id: ticket.ticket_id for ticket in tickets} == self._ticket_ids
        assert len(tickets) == len(self._ticket_ids)
        assert all(waiting.num_left > 0 for waiting in self._waiting.values())
        assert {ticket.blocks for ticket in tickets} <= set(self._ranges)
        assert self._passed_over <= set(self._waiting)
        assert list(self._waiting) == sorted(self._waiting)

    def _plan(self, pages: PageAccounts, max_rows: int) -> BatchPlan:
        """Return a plan for the first range, in turn, that has something to compute."""
        ready = self._ready_by_range()
        self._ranges = [blocks for blocks in self._ranges if blocks in ready]
        blocked = list[int]()
        for blocks in self._ranges:
            plan = fit(self._choose(ready[blocks], max_rows), pages)
            blocked += plan.blocked
            if plan.slices:
                self._ranges.remove(blocks)
                self._ranges.append(blocks)
                return BatchPlan(plan.slices, plan.preempted, tuple(blocked))
        return BatchPlan(blocked=tuple(blocked))

    def _ready_by_range(self) -> dict[BlockRange, list[_Waiting]]:
        """Return what could be computed for each range, the oldest first."""
        all_ready = [waiting for waiting in self._waiting.values() if not waiting.is_running]
        if len(self._ranges) == 1 and all_ready:  # the common case needs no look at each
            return {self._ranges[0]: all_ready}
        ready: dict[BlockRange, list[_Waiting]] = {}
        for waiting in all_ready:
            ready.setdefault(waiting.ticket.blocks, []).append(waiting)
        return ready

    def _choose(self, ready: list[_Waiting], max_rows: int) -> list[tuple[Ticket, Slice]]:
        """Return what a batch of these would hold if there were pages enough; oldest first."""
        limits = self._limits
        prefills = [waiting for waiting in ready if waiting.ticket.cost_class == "prefill"]
        reserved = min(limits.chunk_tokens, limits.max_batch_tokens // 2) if prefills else 0
        max_tokens = limits.max_batch_tokens - reserved
        decodes, num_tokens = self._choose_decodes(ready, max_rows, max_tokens)
        num_free = max(reserved, limits.max_batch_tokens - num_tokens)
        budget = min(limits.chunk_tokens, num_free)
        if self._is_lone(ready[0].ticket):
            budget = num_free = limits.max_batch_tokens
        slack = min(int(_SLACK * limits.chunk_tokens), num_free - budget)
        fresh = [w for w in prefills if w.ticket.ticket_id not in self._passed_over]
        return [*decodes, *self._choose_prefills(fresh or prefills, budget, slack)]

    def _choose_decodes(
        self, ready: list[_Waiting], max_rows: int, max_tokens: int
    ) -> tuple[list[tuple[Ticket, Slice]], int]:
        """Return decodes, the oldest first, and their tokens over all rows."""
        chosen, num_rows, num_tokens = list[tuple[Ticket, Slice]](), 0, 0
        for waiting in ready:
            ticket = waiting.ticket
            if ticket.cost_class != "decode":
                continue
            rows, tokens = ticket.num_rows, ticket.num_rows * ticket.num_tokens
            fits = num_rows + rows <= max_rows and num_tokens + tokens <= max_tokens
            if fits or not chosen:
                chosen.append((ticket, Slice(ticket.ticket_id, 0, ticket.num_tokens)))
                num_rows, num_tokens = num_rows + rows, num_tokens + tokens
        return chosen, num_tokens

    def _choose_prefills(
        self, prefills: list[_Waiting], budget: int, slack: int
    ) -> Iterator[tuple[Ticket, Slice]]:
        demands = [
            Demand(w.ticket.ticket_id, w.ticket.tenant, w.ticket.num_rows, w.num_left)
            for w in prefills
        ]
        self._shares.choose(demands, budget, slack=slack)
        for waiting, demand in zip(prefills, demands, strict=True):
            if demand.num_taken > 0:
                start = waiting.ticket.num_tokens - waiting.num_left
                yield waiting.ticket, Slice(demand.ticket_id, start, start + demand.num_taken)

    def _is_lone(self, ticket: Ticket) -> bool:
        """Whether no other session waits, or is likely to decode soon."""
        return len(self._waiting) == 1 and self._decoding <= {ticket.session_id}

    def _drop_ticket_of(self, session_id: int) -> None:
        ticket_id = self._ticket_ids.pop(session_id, None)
        if ticket_id is not None:
            del self._waiting[ticket_id]
            self._passed_over.discard(ticket_id)
