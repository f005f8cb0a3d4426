"""The board of a gateway that runs alone, or of several in one process."""

# ruff: noqa: D102 - the methods are described once, in their Protocol

from collections.abc import Callable, Mapping

from app.state.board import FINDINGS_S, LEASE_S, OFFER_S, BoardView, Finding


class MemoryWorkerBoard:
    """`WorkerBoard` in this process.

    Args:
        clock: returns seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._leader: str | None = None
        self._leads_until = 0.0
        self._term = 0
        self._findings: dict[str, tuple[bytes, float]] = {}
        self._offer: dict[str, bytes] = {}
        self._offer_until = 0.0

    async def look(self, worker_id: str) -> BoardView:
        now = self._clock()
        if not self._is_led(now):
            self._leader, self._term = worker_id, self._term + 1
        is_ours = self._leader == worker_id
        if is_ours:
            self._leads_until = now + LEASE_S
        offer = self._fresh_offer(now)
        self._offer_until = now + OFFER_S
        findings = {
            name: Finding(value, now - at)
            for name, (value, at) in self._findings.items()
            if now - at < FINDINGS_S
        }
        return BoardView(self._term if is_ours else None, findings, dict(offer))

    async def publish(self, term: int, findings: Mapping[str, bytes]) -> bool:
        now = self._clock()
        if not self._is_led(now) or term != self._term:
            return False
        self._findings |= {name: (value, now) for name, value in findings.items()}
        return True

    async def change_offer(self, name: str, change: bytes) -> None:
        now = self._clock()
        self._fresh_offer(now)[name] = change
        self._offer_until = now + OFFER_S

    async def resign(self, worker_id: str) -> None:
        if self._leader == worker_id:
            self._leader = None

    def _is_led(self, now: float) -> bool:
        return self._leader is not None and now < self._leads_until

    def _fresh_offer(self, now: float) -> dict[str, bytes]:
        if now >= self._offer_until:
            self._offer = {}
        return self._offer
