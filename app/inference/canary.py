"""Makes one real token now and then, so that readiness is a measured fact."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from time import monotonic
from traceback import format_exception
from typing import Final

import structlog

from app.inference.replica_pool import ReplicaPool
from swarm_client.connection import RemoteModel
from swarm_client.generation.parameters import SamplingParameters
from swarm_client.generation.sampler_row import SamplerRow
from swarm_protocol.errors import SwarmError

log = structlog.get_logger(__name__)

_MAX_LENGTH: Final = 2
_RETRY_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class CanaryState:
    """Outcome of the latest canary.

    Attributes:
        ok: a token came back, and that was lately.
        age_s: time since the latest outcome; None before the first.
        reason: why it is not ok, as an error code or one word; safe to show to anybody.
    """

    ok: bool
    age_s: float | None
    reason: str | None


class Canary:
    """Opens a session of one model, runs one token through the blocks and the head, closes it.

    Args:
        max_age_s: an outcome is believed for so long; one attempt may take as long.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        remote: RemoteModel,
        replicas: ReplicaPool,
        *,
        period_s: float,
        max_age_s: float,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._remote = remote
        self._replicas = replicas
        self._period_s = period_s
        self._max_age_s = max_age_s
        self._clock = clock
        self._is_running = asyncio.Lock()
        self._ended_at: float | None = None
        self._reason: str | None = "none_yet"

    def state(self) -> CanaryState:
        """Return the latest outcome; one that is too old is not ok."""
        if self._ended_at is None:
            return CanaryState(ok=False, age_s=None, reason=self._reason)
        age_s = self._clock() - self._ended_at
        reason = "too_old" if self._reason is None and age_s > self._max_age_s else self._reason
        return CanaryState(ok=reason is None, age_s=age_s, reason=reason)

    async def run(self) -> None:
        """Check again and again until cancelled; sooner after a failure."""
        while True:
            await self.check()
            failed = self._reason is not None
            await asyncio.sleep(min(self._period_s, _RETRY_S) if failed else self._period_s)

    async def check(self) -> None:
        """Make one token now, and remember the outcome. Calls wait for each other."""
        async with self._is_running:
            reason = await self._failure()
            if reason != self._reason:
                event = "canary_returned" if reason is None else "canary_lost"
                log.info(event, model=self._remote.facts.source, reason=reason)
            self._reason, self._ended_at = reason, self._clock()

    def note_success(self, age_s: float) -> None:
        """Remember a token that another worker has got back, unless a later outcome is known."""
        ended_at = self._clock() - age_s
        if self._ended_at is None or ended_at > self._ended_at:
            self._reason, self._ended_at = None, ended_at

    async def _failure(self) -> str | None:
        try:
            async with asyncio.timeout(self._max_age_s):
                await self._make_token()
        except TimeoutError:
            return "timed_out"
        except SwarmError as error:
            return error.code
        except Exception as error:  # the edge of the task: the next attempt may succeed
            log.error("canary_failed", traceback="".join(format_exception(error)))
            return "internal_error"
        return None

    async def _make_token(self) -> None:
        token_ids = [self._remote.facts.bos_token_id or 0]
        row = SamplerRow(SamplingParameters(), token_ids, Random(0))
        session = await self._remote.open_session(max_length=_MAX_LENGTH)
        try:
            hidden = await session.step(await self._replicas.embed(token_ids))
            await self._replicas.sample(hidden[0, -1], row)
        finally:
            await session.close()
