"""Looks at the event loop and at the models, again and again, and tells the metrics."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from math import nan
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Gauge, Histogram

from app.background import in_background
from app.serving import OfferedModel

log = structlog.get_logger(__name__)

_PERIOD_S: Final = 0.25
_LAG_BUCKETS_S: Final = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


class PulseMetrics:
    """What `Pulse` tells. With several workers, the worst of them is shown; sizes are summed."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.lag = Histogram(
            "swarmgate_event_loop_lag_seconds",
            "How late the event loop was to do what was due; measured four times a second.",
            buckets=_LAG_BUCKETS_S,
            registry=registry,
        )
        self.draining = Gauge(
            "swarmgate_draining",
            "1 while nothing new is taken.",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.canary = Gauge(
            "swarmgate_canary_ok",
            "1 while a token of the model came back lately.",
            ["model_name"],
            registry=registry,
            multiprocess_mode="livemin",
        )
        self.missing = Gauge(
            "swarmgate_missing_blocks",
            "Blocks of the model that nobody serves.",
            ["model_name"],
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.history = Gauge(
            "swarmgate_history_bytes",
            "Inputs that open sessions keep to make up for lost servers.",
            ["model_name"],
            registry=registry,
            multiprocess_mode="livesum",
        )


class Pulse:
    """One per app.

    Args:
        models: those offered now; may change.
        is_draining: whether nothing new is taken.
        tell_tokens: shows what the metrics have noted of tokens.
    """

    def __init__(
        self,
        metrics: PulseMetrics,
        models: Callable[[], Mapping[str, OfferedModel]],
        is_draining: Callable[[], bool],
        tell_tokens: Callable[[], None] = lambda: None,
    ) -> None:
        self._metrics = metrics
        self._models = models
        self._is_draining = is_draining
        self._tell_tokens = tell_tokens
        self._known: set[str] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Look while the block runs."""
        async with in_background(self._run(), name="pulse"):
            yield

    def look(self) -> None:
        """Tell how tokens and models are now; a model offered no more has no number."""
        self._tell_tokens()
        self._metrics.draining.set(self._is_draining())
        models = self._models()
        for model in models.values():
            num_missing = sum(len(blocks) for blocks in model.remote.missing_blocks())
            self._metrics.canary.labels(model.id).set(model.last_canary().ok)
            self._metrics.missing.labels(model.id).set(num_missing)
            self._metrics.history.labels(model.id).set(model.remote.history_bytes())
        for model_id in self._known - models.keys():
            self._metrics.canary.labels(model_id).set(nan)
            self._metrics.missing.labels(model_id).set(nan)
            self._metrics.history.labels(model_id).set(0)
        self._known = set(models)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                self.look()
            except Exception:  # the edge of the task: metrics must not end, nor end anything
                log.exception("pulse_failed")
            due_at = loop.time() + _PERIOD_S
            await asyncio.sleep(_PERIOD_S)
            self._metrics.lag.observe(max(0.0, loop.time() - due_at))
