"""Shares the tokens of prefill chunks fairly among tenants: deficit round-robin, equal weights.

A chunk whose last prompt lacks little takes that, too, and its tenant owes it. Otherwise most
prompts of a queue would be cut, and their answers wait for one more chunk for the sake of an end.

Source: Shreedhar and Varghese, "Efficient fair queueing using deficit round robin", 1995.
"""

from collections import deque
from collections.abc import Sequence

from swarm_server.scheduler.tickets import Ticket


class TenantShares:
    """Remembers whose turn it is, and what each tenant may still take."""

    def __init__(self, quantum: int) -> None:
        """Begin with nobody.

        Args:
            quantum: tokens that a tenant gets each time that its turn comes; at least 1.
        """
        self._quantum = quantum
        self._credits: dict[str, int] = {}
        self._turns: deque[str] = deque()

    def take(self, tickets: Sequence[Ticket], budget: int, *, slack: int = 0) -> None:
        """Share `budget` tokens, over all rows, among waiting tickets: sets `num_taken` of each.

        Within a tenant who comes first is served first. A ticket with more rows than the budget
        has tokens gets one token of each row, alone. Up to `slack` tokens more are spent where
        they end a ticket that would be cut.
        """
        queues = self._queue(tickets)
        is_first, postponed = True, list[str]()
        while queues and budget > 0:
            tenant = self._turns.popleft()
            queue = queues[tenant]
            if not is_first and budget < queue[0].num_rows:
                postponed.append(tenant)
                del queues[tenant]
                continue
            self._credits[tenant] += self._quantum
            spent = self._serve(tenant, queue, budget, may_exceed=is_first)
            if queue and spent >= budget:
                spent += self._serve_rest(tenant, queue, slack)
            budget -= spent
            is_first = is_first and spent == 0
            if queue:
                self._turns.append(tenant)
            else:
                del queues[tenant], self._credits[tenant]
        self._turns.extendleft(reversed(postponed))

    def _queue(self, tickets: Sequence[Ticket]) -> dict[str, deque[Ticket]]:
        """Return the tickets by tenant; who has none any more loses turn and credit."""
        queues: dict[str, deque[Ticket]] = {}
        for ticket in tickets:
            queues.setdefault(ticket.tenant, deque()).append(ticket)
        self._turns = deque(tenant for tenant in self._turns if tenant in queues)
        self._credits = {tenant: self._credits.get(tenant, 0) for tenant in queues}
        self._turns.extend(tenant for tenant in queues if tenant not in self._turns)
        return queues

    def _serve(self, tenant: str, queue: deque[Ticket], budget: int, *, may_exceed: bool) -> int:
        """Take what credit and budget allow from a tenant's tickets; return the tokens spent."""
        spent = 0
        while queue:
            ticket = queue[0]
            affordable = min(self._credits[tenant], budget - spent) // ticket.num_rows
            if affordable <= 0 and may_exceed and ticket.num_rows > budget:
                affordable = 1
            taken = min(affordable, ticket.num_left - ticket.num_taken)
            if taken <= 0:
                break
            may_exceed = False
            ticket.num_taken += taken
            spent += taken * ticket.num_rows
            self._credits[tenant] -= taken * ticket.num_rows
            if ticket.num_taken == ticket.num_left:
                queue.popleft()
        return spent

    def _serve_rest(self, tenant: str, queue: deque[Ticket], slack: int) -> int:
        """End a ticket that has been begun if `slack` is enough; return the tokens spent."""
        ticket = queue[0]
        num_left = ticket.num_left - ticket.num_taken
        spent = num_left * ticket.num_rows
        if ticket.num_taken == 0 or spent > slack:
            return 0
        ticket.num_taken += num_left
        self._credits[tenant] -= spent
        queue.popleft()
        return spent
