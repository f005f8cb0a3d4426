"""Fits batches into the pages that there are, and says who must give pages back for that."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from swarm_server.scheduler.tickets import BatchPlan, Ticket


@dataclass(frozen=True, slots=True)
class Holding:
    """Pages that would be free if a session were preempted; it rests if it has not stepped long."""

    session_id: int
    num_pages: int
    is_resting: bool


class PageAccounts(Protocol):
    """What the scheduler asks about pages."""

    @property
    def num_available(self) -> int:
        """Pages that could be allocated now."""

    def num_needed(self, tickets: Sequence[Ticket]) -> int:
        """Return how many pages the tokens taken of these take, at most."""

    def holdings(self) -> Sequence[Holding]:
        """Return what every session that has pages would give back. Asked only when short."""


def fit(wanted: Sequence[Ticket], pages: PageAccounts) -> BatchPlan:
    """Return the tickets that get pages, in their order, and the sessions preempted for them.

    Sessions that came first get pages first. Those preempted rest, or came later than the one that
    needs their pages: resting ones first, then whoever came last. Of tickets that get none,
    nothing is taken any more.
    """
    if pages.num_needed(wanted) <= pages.num_available:
        return BatchPlan(wanted)
    fitting = _Fitting(pages)
    for ticket in sorted(wanted, key=lambda ticket: ticket.session_id):
        if not fitting.place(ticket):
            ticket.num_taken = 0
    kept = [ticket for ticket in wanted if ticket.num_taken]
    return BatchPlan(kept, fitting.preempted, fitting.blocked)


class _Fitting:
    def __init__(self, pages: PageAccounts) -> None:
        self.preempted: list[int] = []
        self.blocked: list[Ticket] = []
        self._pages = pages
        self._num_left = pages.num_available
        self._served: set[int] = set()
        self._victims: list[Holding] | None = None

    def place(self, ticket: Ticket) -> bool:
        """Give a ticket its pages; tell whether it has them."""
        session_id = ticket.session_id
        if session_id in self.preempted:
            return False
        needed = self._pages.num_needed([ticket])
        if needed > self._num_left and not self._preempt_for(session_id, needed):
            self.blocked.append(ticket)
            return False
        self._num_left -= needed
        self._served.add(session_id)
        return True

    def _preempt_for(self, session_id: int, needed: int) -> bool:
        """Free enough pages for a session, or none at all."""
        victims, num_left = list[Holding](), self._num_left
        for holding in self._all_victims():
            if num_left >= needed:
                break
            is_later = holding.session_id > session_id
            is_own_or_served = (
                holding.session_id == session_id or holding.session_id in self._served
            )
            if (is_later or holding.is_resting) and not is_own_or_served:
                victims.append(holding)
                num_left += holding.num_pages
        if num_left < needed:
            return False
        self._num_left = num_left
        for victim in victims:
            self.preempted.append(victim.session_id)
            self._all_victims().remove(victim)
        return True

    def _all_victims(self) -> list[Holding]:
        if self._victims is None:
            holdings = (holding for holding in self._pages.holdings() if holding.num_pages > 0)
            self._victims = sorted(holdings, key=lambda h: (not h.is_resting, -h.session_id))
        return self._victims
