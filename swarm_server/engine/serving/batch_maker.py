"""Makes batches: asks the scheduler, gives pages to what it has picked, and takes them back."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from swarm_protocol.logs import get_logger
from swarm_server.engine.serving.accounts import SessionAccounts
from swarm_server.engine.serving.limits import EngineCounters, EngineLimits
from swarm_server.engine.serving.running_batch import Member, RunningBatch
from swarm_server.engine.serving.session import EngineSession
from swarm_server.engine.serving.work import Work
from swarm_server.errors import KVMemoryError, PagesExhaustedError
from swarm_server.kv import KVMemory, PageCopy
from swarm_server.scheduler import Scheduler, Slice, Ticket

log = get_logger(__name__)

_MAX_DECODE_TOKENS = 8
"""Steps of at most so many tokens a row are decodes, which go into every batch."""


@dataclass(frozen=True, slots=True)
class ReadyDecodes:
    """Rows that could decode now, and when the first of them came."""

    num_rows: int
    since: float


class BatchMaker:
    """Knows all open sessions and the steps that wait. For the event loop only."""

    def __init__(
        self,
        memory: KVMemory,
        limits: EngineLimits,
        counters: EngineCounters,
        clock: Callable[[], float],
    ) -> None:
        self.sessions: dict[int, EngineSession] = {}
        self._memory = memory
        self._limits = limits
        self._counters = counters
        self._clock = clock
        self._scheduler = Scheduler(limits.batch)
        self._accounts = SessionAccounts(memory, self.sessions, rest_s=limits.rest_s, clock=clock)
        self._stepping: dict[int, EngineSession] = {}  # by ticket id

    @property
    def has_work(self) -> bool:
        """Whether a step waits that is not being computed."""
        return self._scheduler.has_work

    def ready_decodes(self) -> ReadyDecodes | None:
        """Return what waits when decodes do, and nothing else."""
        num_rows, since = 0, inf
        for session in self._stepping.values():
            work = session.work
            if work is None or session.is_in_batch:
                continue
            if work.is_prefill:
                return None
            num_rows += work.num_rows
            since = min(since, work.submitted_at)
        return ReadyDecodes(num_rows, since) if num_rows else None

    def add(self, session: EngineSession, work: Work) -> None:
        """Take a session's step, or what of it must be computed anew.

        New steps have greater ticket ids than those before.
        """
        request, num_tokens = session.request, work.num_tokens
        work.is_prefill = num_tokens > _MAX_DECODE_TOKENS
        self._stepping[work.ticket_id] = session
        self._scheduler.add(
            Ticket(
                work.ticket_id,
                session.session_id,
                request.tenant,
                request.blocks,
                work.num_rows,
                num_tokens,
                "prefill" if work.is_prefill else "decode",
            )
        )

    def drop(self, session: EngineSession) -> None:
        """Forget what a session waits for, even while it is computed."""
        self._scheduler.cancel(session.session_id)
        if session.work is not None:
            self._stepping.pop(session.work.ticket_id, None)

    def next_batch(self, max_rows: int | None = None) -> RunningBatch | None:
        """Return what to compute next, with pages for it; None when nothing can be.

        Args:
            max_rows: of decodes; None for no other limit than that of all batches.
        """
        plan = self._scheduler.next_batch(self._accounts, max_rows=max_rows)
        for session_id in plan.preempted:
            self._preempt(self.sessions[session_id])
        members, copies = list[Member](), list[PageCopy]()
        for chosen in plan.slices:
            member = self._grant(chosen, copies)
            if member is not None:
                members.append(member)
        for ticket_id in plan.blocked:
            self._note_blocked(self._stepping[ticket_id])
        if not members:
            return None
        if len({member.piece.adapter for member in members}) > 1:
            members.sort(key=lambda member: member.piece.adapter or "")
        return RunningBatch(members[0].session.request.blocks, members, copies)

    def ended(self, member: Member, *, is_done: bool) -> None:
        """Note that a slice has been computed, or not, of a session that is still open."""
        session, work = member.session, member.work
        self._scheduler.finished(work.ticket_id, member.end - member.start if is_done else 0)
        if member.end == work.chunk.end and is_done:
            del self._stepping[work.ticket_id]
        elif not is_done:
            self.drop(session)

    def check_integrity(self) -> None:
        """Assert what holds whenever no batch runs."""
        self._scheduler.check_integrity()
        held = [page for session in self.sessions.values() for page in session.pages.pages]
        self._memory.check_integrity(held)
        works = {s.work.ticket_id for s in self.sessions.values() if s.work is not None}
        assert works == set(self._stepping)

    def _grant(self, chosen: Slice, copies: list[PageCopy]) -> Member | None:
        session = self._stepping[chosen.ticket_id]
        work = session.work
        assert work is not None
        start, end = work.start + chosen.start, work.start + chosen.end
        assert session.pages.length == start
        try:
            copies += session.pages.append(end - start)
        except PagesExhaustedError:  # a victim's pages were less free than they seemed
            self._scheduler.finished(chosen.ticket_id, 0)
            self._note_blocked(session)
            return None
        work.blocked_at = None
        session.is_in_batch = True
        return Member(session, work, start, end, session.piece(start, end))

    def _preempt(self, session: EngineSession) -> None:
        session.pages.preempt()
        self._counters.num_preemptions += 1
        log.debug("session_preempted", session=session.session_id, position=session.position)
        if session.work is not None:
            session.work.restart(session.pages.length)
            self.add(session, session.work)

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
            self.drop(session)
            num_tokens = session.pages.num_rows * work.num_tokens
            num_free = self._memory.num_tokens_available
            session.fail(KVMemoryError.no_pages(num_tokens, num_free, waited_s))
