"""Models that come and go while an engine runs."""

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from app.inference.engine import EngineSettings, SwarmEngine
from app.inference.errors import MemoryBudgetError, ModelExistsError, UnknownModelError
from app.inference.requests import FinishReason
from swarm_client.connection import SwarmConnection
from swarm_client.errors import SessionClosedError
from swarm_protocol.errors import CheckpointError
from swarm_protocol.memory_node import MemoryNetwork
from tests.integration.app.inference.swarm import Swarm, collect, request_of

TINY_BYTES = 2 * 262 * 64 * 4
"""Embeddings and head of the tiny models, in float32."""


async def test_a_model_that_came_later_is_served_like_any_other(
    swarm: Swarm, pairs_model: Path
) -> None:
    """From the moment on that it is loaded."""
    model = await swarm.engine.add(str(pairs_model), "tiny-llama-hf")

    assert swarm.engine.model("pairs") is model
    assert sorted(swarm.engine.models) == ["pairs", swarm.model_id]
    with pytest.raises(ModelExistsError, match="'pairs' already"):
        await swarm.engine.add(str(pairs_model))


async def test_a_model_that_goes_takes_nobody_new_and_ends_what_runs(swarm: Swarm) -> None:
    """Within the time to drain; then its weights and its watch are gone."""
    conversation = await swarm.open()
    events = conversation.generate(request_of(await swarm.encode("abc"), max_new_tokens=8))
    first = await anext(events)

    removing = asyncio.create_task(swarm.engine.remove(swarm.model_id, drain_s=10))
    await asyncio.sleep(0)
    with pytest.raises(UnknownModelError):
        await swarm.open()
    rest = [event async for event in events]
    assert not removing.done()
    await conversation.close()
    await removing

    assert len([first, *rest]) == 8
    assert rest[-1].finish_reason is FinishReason.LENGTH
    assert swarm.engine.memory.taken_bytes == 0
    await swarm.until_idle()


async def test_what_still_runs_after_the_time_to_drain_fails(swarm: Swarm) -> None:
    """At its next token, with an error that says so."""
    conversation = await swarm.open()
    events = conversation.generate(request_of(await swarm.encode("abc"), max_new_tokens=40))
    await anext(events)

    await swarm.engine.remove(swarm.model_id, drain_s=0)

    with pytest.raises(SessionClosedError):
        await anext(events)
    await swarm.until_idle()


async def test_a_model_that_went_can_come_again(swarm: Swarm, tiny_llama: Path) -> None:
    """And its swarm is found again."""
    await swarm.engine.remove(swarm.model_id, drain_s=0)

    await swarm.engine.add(str(tiny_llama))

    conversation = await swarm.open()
    assert len(await collect(conversation, request_of(await swarm.encode("abc")))) == 8
    await conversation.close()


async def test_what_does_not_fit_the_budget_is_refused_before_it_is_loaded(
    tiny_llama: Path, pairs_model: Path
) -> None:
    """The sentence has the numbers; the room of a model that went is free again."""
    connection = SwarmConnection(MemoryNetwork().node("gateway"))
    settings = EngineSettings(
        models=(str(tiny_llama),), dtype="float32", memory_budget_bytes=TINY_BYTES * 3 // 2
    )
    engine = await SwarmEngine.start(connection, settings)
    assert engine.memory.taken_bytes == TINY_BYTES

    with pytest.raises(MemoryBudgetError, match="'pairs' needs"):
        await engine.add(str(pairs_model))
    assert list(engine.models) == ["tiny-llama"]
    await engine.remove("tiny-llama", drain_s=0)
    await engine.add(str(pairs_model))

    assert list(engine.models) == ["pairs"]
    await engine.close()
    await connection.close()


async def test_a_model_that_cannot_be_loaded_leaves_nothing_behind(
    swarm: Swarm, tmp_path: Path
) -> None:
    """The others go on."""
    before = swarm.engine.memory.taken_bytes

    with pytest.raises(CheckpointError):
        await swarm.engine.add(str(tmp_path))

    assert swarm.engine.memory.taken_bytes == before
    assert list(swarm.engine.models) == [swarm.model_id]


@pytest.mark.parametrize(
    ("source", "is_named"), [("nowhere", True), (f"nowhere@{'0' * 40}", False)]
)
async def test_a_model_that_may_change_under_its_name_is_named_in_the_log(
    swarm: Swarm, source: str, is_named: bool
) -> None:
    """Before anything of it is read."""
    with capture_logs() as logged, pytest.raises(CheckpointError):
        await swarm.engine.add(source)

    named = [each["model"] for each in logged if each["event"] == "model_not_pinned"]
    assert named == [source] * is_named


async def test_replicas_of_several_devices_give_the_same_tokens(tiny_llama: Path) -> None:
    """Here two copies on the CPU; each has its own threads."""
    connection = SwarmConnection(MemoryNetwork().node("gateway"))
    settings = EngineSettings(
        models=(str(tiny_llama),), dtype="float32", devices=("cpu", "cpu"), replicas=2
    )
    engine = await SwarmEngine.start(connection, settings)
    pool = engine.model("tiny-llama").replicas

    embedded = await asyncio.gather(*(pool.embed([1, 2, 3]) for _ in range(8)))

    assert all(hidden.equal(embedded[0]) for hidden in embedded)
    assert engine.memory.taken_bytes == 2 * TINY_BYTES
    await engine.close()
    await connection.close()
