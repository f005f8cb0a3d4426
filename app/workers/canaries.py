"""One worker makes the canary tokens of all.

A success is everybody's, a failure is only its own: a worker that is not told of a token makes one
itself. So does each worker once, when it begins, for the way from there to the servers is its own.
"""

import asyncio
from typing import Final

from app.inference.canary import Canary
from app.state.board import Finding
from app.workers.colleagues import Colleagues

_RETRY_S: Final = 1.0
_STALE_PERIODS: Final = 2.0


class SharedCanary:
    """The canary of one model, in one worker.

    Args:
        name: of the model, for all workers.
        period_s: between two tokens of all workers together.
    """

    def __init__(
        self, canary: Canary, name: str, colleagues: Colleagues, *, period_s: float
    ) -> None:
        self._canary = canary
        self._name = f"canary:{name}"
        self._colleagues = colleagues
        self._period_s = period_s
        self._has_succeeded = False

    async def run(self) -> None:
        """Make tokens, or hear of them, until cancelled."""
        while True:
            pause_s = await self.turn()
            await asyncio.sleep(pause_s)

    async def turn(self) -> float:
        """Make a token, unless the leader has made one lately; return how long to wait then."""
        finding = self._colleagues.finding(self._name)
        if self._is_enough(finding):
            assert finding is not None
            self._canary.note_success(finding.age_s)
            return min(_RETRY_S, self._period_s)
        await self._canary.check()
        if not self._canary.state().ok:
            return min(_RETRY_S, self._period_s)
        self._has_succeeded = True
        await self._colleagues.publish(self._name, b"")
        return self._period_s

    def _is_enough(self, finding: Finding | None) -> bool:
        is_told = self._has_succeeded and not self._colleagues.is_leading
        return is_told and finding is not None and finding.age_s < _STALE_PERIODS * self._period_s
