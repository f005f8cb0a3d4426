"""What is looked at again and again."""

import asyncio
from itertools import count
from math import isnan
from time import sleep

from prometheus_client import CollectorRegistry

from app.observability.pulse import Pulse, PulseMetrics
from swarm_protocol.identifiers import BlockRange
from tests.harness.scripted_engine import ScriptedModel

DEMO = {"model_name": "demo"}


async def test_loop_that_was_held_up_shows_as_lag() -> None:
    """Whatever blocks the loop makes everybody wait."""
    registry, looks, has_measured = CollectorRegistry(), count(), asyncio.Event()

    def models() -> dict[str, ScriptedModel]:
        if next(looks) == 1:  # the first measurement is before the second look
            has_measured.set()
        return {}

    async with Pulse(PulseMetrics(registry), models, lambda: False).running():
        await asyncio.sleep(0)
        sleep(0.35)  # noqa: ASYNC251  # holds the loop up beyond the period of a quarter second
        await has_measured.wait()

    assert (registry.get_sample_value("swarmgate_event_loop_lag_seconds_sum") or 0) > 0.05


def test_models_are_shown_as_they_are() -> None:
    """A model that is offered no more has no number any more."""
    registry, model = CollectorRegistry(), ScriptedModel()
    models = {"demo": model}
    pulse = Pulse(PulseMetrics(registry), lambda: models, lambda: True)
    model.canary.ok = False
    model.remote.gaps = (BlockRange(1, 3), BlockRange(6, 8))
    model.remote.num_history_bytes = 4096

    pulse.look()
    shown = [
        registry.get_sample_value(name, labels)
        for name, labels in (
            ("swarmgate_canary_ok", DEMO),
            ("swarmgate_missing_blocks", DEMO),
            ("swarmgate_history_bytes", DEMO),
            ("swarmgate_draining", {}),
        )
    ]
    models.clear()
    pulse.look()

    assert shown == [0, 4, 4096, 1]
    assert isnan(registry.get_sample_value("swarmgate_canary_ok", DEMO) or 0)
