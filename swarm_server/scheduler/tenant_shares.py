"""Shares the tokens of prefill chunks fairly among tenants: deficit round-robin, equal weights.

A chunk whose last prompt lacks little takes that, too, and its tenant owes it. Otherwise most
prompts of a queue would be cut, and their answers wait for one more chunk for the sake of an end.

Source: Shreedhar and Varghese, "Efficient fair queueing using deficit round robin", 1995.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(slots=True)
class Demand:
    """What is left of a ticket: `num_tokens` of each of `num_rows`. `num_taken` is the answer."""

    ticket_id: int
    tenant: str
    num_rows: int
    num_tokens: int
    num_taken: int = 0


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

    def choose(self, demands: Sequence[Demand], budget: int, *, slack: int = 0) -> None:
        """Share `budget` tokens, over all rows, among demands: sets `num_taken` of each.

        Within a tenant who comes first is served first. A demand with more rows than the budget
        has tokens gets one token of each row, alone. Up to `slack` tokens more are spent where
        they end a demand that would be cut.
        """
        queues = self._queue(demands)
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

    def _queue(self, demands: Sequence[Demand]) -> dict[str, deque[Demand]]:
        """Return the demands by tenant; who has none any more loses turn and credit."""
        queues: dict[str, deque[Demand]] = {}
        for demand in demands:
            queues.setdefault(demand.tenant, deque()).append(demand)
        self._turns = deque(tenant for tenant in self._turns if tenant in queues)
        self._credits = {tenant: self._credits.get(tenant, 0) for tenant in queues}
        self._turns.extend(tenant for tenant in queues if tenant not in self._turns)
        return queues

    def _serve(self, tenant: str, queue: deque[Demand], budget: int, *, may_exceed: bool) -> int:
        """Take what credit and budget allow from a tenant's demands; return the tokens spent."""
        spent = 0
        while queue:
            demand = queue[0]
            affordable = min(self._credits[tenant], budget - spent) // demand.num_rows
            if affordable <= 0 and may_exceed and demand.num_rows > budget:
                affordable = 1
            taken = min(affordable, demand.num_tokens - demand.num_taken)
            if taken <= 0:
                break
            may_exceed = False
            demand.num_taken += taken
            spent += taken * demand.num_rows
            self._credits[tenant] -= taken * demand.num_rows
            if demand.num_taken == demand.num_tokens:
                queue.popleft()
        return spent

    def _serve_rest(self, tenant: str, queue: deque[Demand], slack: int) -> int:
        """End a demand that has been begun if `slack` is enough; return the tokens spent."""
        demand = queue[0]
        num_left = demand.num_tokens - demand.num_taken
        spent = num_left * demand.num_rows
        if demand.num_taken == 0 or spent > slack:
            return 0
        demand.num_taken += num_left
        self._credits[tenant] -= spent
        queue.popleft()
        return spent
