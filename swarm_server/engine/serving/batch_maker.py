"""Makes batches: asks the scheduler, gives pages to what it has picked, and takes them back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from swarm_protocol.logs import get_logger
from swarm_server.engine.serving.accounts import SessionAccounts
from swarm_server.engine.serving.limits import EngineCounters, EngineLimits
from swarm_server.engine.serving.running_batch import RunningBatch
from swarm_server.engine.serving.session import EngineSession
from swarm_server.errors import KVMemoryError, PagesExhaustedError
from swarm_server.kv import KVMemory, PageCopy
from swarm_server.scheduler import Scheduler, Ticket

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ReadyDecodes:
    """Rows that could decode now, and when the first of them came."""

    num_rows: int
    since: float


class BatchMaker:
    """Knows all open sessions, whose steps are the scheduler's tickets. For the event loop only."""

    def __init__(
        self,
        scheduler: Scheduler,
        memory: KVMemory,
        limits: EngineLimits,
        counters: EngineCounters,
        clock: Callable[[], float],
    ) -> None:
        self.sessions: dict[int, EngineSession] = {}
        self._scheduler = scheduler
        self._memory = memory
        self._limits = limits
        self._counters = counters
        self._clock = clock
        self._accounts = SessionAccounts(memory, self.sessions, rest_s=limits.rest_s, clock=clock)

    def ready_decodes(self, waiting: Sequence[Ticket]) -> ReadyDecodes | None:
        """Return what waits, the oldest first, when that is decodes and nothing else."""
        if any(ticket.is_prefill for ticket in waiting):
            return None
        oldest = self.sessions[waiting[0].session_id].work
        assert oldest is not None
        return ReadyDecodes(sum([ticket.num_rows for ticket in waiting]), oldest.submitted_at)

    def lone_decode(self) -> RunningBatch | None:
        """Return a batch of the only step there is; None when `next_batch` must look into it.

        Who decodes alone waits for each step: half of what a batch of many asks is asked in vain.
        """
        ticket = self._scheduler.lone_decode()
        if ticket is None:
            return None
        session, num_tokens = self.sessions[ticket.session_id], ticket.num_left
        pages, work = session.pages, session.work
        assert work is ticket
        assert pages.length == work.chunk.end - num_tokens
        if pages.num_needed(num_tokens):
            return None
        self._scheduler.take_whole(work)
        pages.append(num_tokens)
        work.blocked_at, session.is_in_batch = None, True
        num_rows = work.num_rows
        return RunningBatch(work.blocks, (session,), (), num_rows, num_rows * num_tokens, 0)

    def next_batch(self, max_rows: int | None = None) -> RunningBatch | None:
        """Return what to compute next, with pages for it; None when nothing can be.

        Args:
            max_rows: of decodes; None for no other limit than that of all batches.
        """
        plan = self._scheduler.next_batch(self._accounts, max_rows=max_rows)
        for session_id in plan.preempted:
            self._preempt(self.sessions[session_id])
        copies = list[PageCopy]()
        sessions = self._grant(plan.tickets, copies)
        for ticket in plan.blocked:
            self._note_blocked(self.sessions[ticket.session_id])
        if not sessions:
            return None
        if len({session.request.adapter for session in sessions}) > 1:
            sessions.sort(key=lambda session: session.request.adapter or "")
        granted = [ticket for ticket in plan.tickets if ticket.num_taken]
        prefills = [ticket for ticket in granted if ticket.is_prefill]
        return RunningBatch(
            granted[0].blocks,
            sessions,
            copies,
            num_rows=sum([ticket.num_rows for ticket in granted]),
            num_tokens=_count_tokens(granted),
            num_prefill_tokens=_count_tokens(prefills),
        )

    def check_integrity(self) -> None:
        """Assert what holds whenever no batch runs."""
        self._scheduler.check_integrity()
        held = [page for session in self.sessions.values() for page in session.pages.pages]
        self._memory.check_integrity(held)
        stepping = {s.session_id for s in self.sessions.values() if s.work is not None}
        assert stepping == {ticket.session_id for ticket in self._scheduler.waiting()}

    def _grant(self, tickets: Sequence[Ticket], copies: list[PageCopy]) -> list[EngineSession]:
        """Give steps pages for what is taken of them; return the sessions that have them."""
        granted = list[EngineSession]()
        for ticket in tickets:
            session = self.sessions[ticket.session_id]
            pages, work = session.pages, session.work
            assert work is ticket
            assert pages.length == work.chunk.end - work.num_left
            try:
                copies += pages.append(work.num_taken)
            except PagesExhaustedError:  # a victim's pages were less free than they seemed
                work.num_taken = 0
                self._note_blocked(session)
            else:
                work.blocked_at = None
                session.is_in_batch = True
                granted.append(session)
        return granted

    def _preempt(self, session: EngineSession) -> None:
        session.pages.preempt()
        self._counters.num_preemptions += 1
        log.debug("session_preempted", session=session.session_id, position=session.position)
        if session.work is not None:
            session.work.restart(session.pages.length)
            self._scheduler.add(session.work)

    def _note_blocked(self, session: EngineSession) -> None:
        """Refuse a step that has waited for pages long enough, or in vain."""
        work, now = session.work, self._clock()
        assert work is not None
        if work.blocked_at is None:
            work.blocked_at = now
        waited_s = now - work.blocked_at
        others = (s for s in self.sessions.values() if s is not session)
        is_hopeless = not any(other.pages.length for other in others)
        if is_hopeless or waited_s >= max(session.request.wait_s, self._limits.page_wait_s):
            self._scheduler.cancel(session.session_id)
            num_tokens = work.num_rows * work.num_left
            num_free = self._memory.num_tokens_available
            session.fail(KVMemoryError.no_pages(num_tokens, num_free, waited_s))


def _count_tokens(tickets: Sequence[Ticket]) -> int:
    """Return what is taken of all rows."""
    return sum([ticket.num_rows * ticket.num_taken for ticket in tickets])
