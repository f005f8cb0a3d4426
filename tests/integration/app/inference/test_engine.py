import subprocess
import sys
from pathlib import Path

import pytest

from app.inference.canary import Canary, CanaryState
from app.inference.engine import EngineSettings, SwarmEngine
from app.inference.errors import EngineStoppedError, PromptTooLongError, UnknownModelError
from app.inference.requests import ChatMessage
from swarm_client.connection import SwarmConnection
from swarm_client.errors import NoRouteError
from swarm_protocol.errors import CheckpointError
from swarm_protocol.memory_node import MemoryNetwork
from tests.integration.app.inference.swarm import Swarm


async def start(*models: str) -> SwarmEngine:
    connection = SwarmConnection(MemoryNetwork().node("gateway"))
    try:
        return await SwarmEngine.start(connection, EngineSettings(models=models))
    finally:
        await connection.close()


async def test_a_model_is_known_by_its_directory(swarm: Swarm, tiny_llama: Path) -> None:
    """Its facts are those of the checkpoint."""
    model = swarm.engine.model(tiny_llama.name)

    assert list(swarm.engine.models) == [tiny_llama.name]
    assert model.facts.num_blocks == 4
    assert not model.is_demo
    assert model.remote.missing_blocks() == ()
    prompt = await model.render_chat([ChatMessage("user", "")])
    assert await model.encode(prompt) == [1, 4, 2, 5]


async def test_an_unknown_model_is_refused_by_the_known_ones(swarm: Swarm) -> None:
    """The sentence names what there is."""
    with pytest.raises(UnknownModelError, match="'gpt'; known models: tiny-llama"):
        await swarm.engine.open("gpt", max_length=8)


async def test_a_conversation_longer_than_the_model_is_refused(swarm: Swarm) -> None:
    """No server is asked."""
    with pytest.raises(PromptTooLongError, match="513 tokens are more than the 512"):
        await swarm.open(max_length=513)


async def test_a_closed_engine_opens_nothing(swarm: Swarm) -> None:
    """Closing it twice is as good as once."""
    await swarm.engine.close()
    await swarm.engine.close()

    with pytest.raises(EngineStoppedError):
        await swarm.open()


async def test_several_models_are_served_and_each_misses_its_servers(
    tiny_llama: Path, pairs_model: Path
) -> None:
    """Start-up does not wait for servers; opening does not either."""
    engine = await start(str(tiny_llama), str(pairs_model))

    assert sorted(engine.models) == ["pairs", "tiny-llama"]
    with pytest.raises(NoRouteError):
        await engine.open("pairs", max_length=8)
    await engine.close()


async def test_two_models_of_one_name_are_refused(tiny_llama: Path) -> None:
    """Callers could not tell them apart."""
    with pytest.raises(CheckpointError, match="same name"):
        await start(str(tiny_llama), f"{tiny_llama}/.")


async def test_a_model_that_cannot_be_loaded_fails_the_start(
    tiny_llama: Path, tmp_path: Path
) -> None:
    """By a plain error, whatever became of the other models."""
    with pytest.raises(CheckpointError, match="is not a model"):
        await start(str(tiny_llama), str(tmp_path))


async def test_a_canary_is_a_token_of_the_whole_swarm(swarm: Swarm) -> None:
    """It leaves nothing behind on the servers."""
    model = swarm.engine.model(swarm.model_id)

    await model.canary.check()

    assert model.last_canary().ok
    assert model.last_canary().reason is None
    await swarm.until_idle()


async def test_a_canary_tells_why_there_is_no_token(swarm: Swarm) -> None:
    """By an error code, which is safe to show."""
    model = swarm.engine.model(swarm.model_id)
    await swarm.servers[0].close()

    await model.canary.check()

    assert not model.last_canary().ok
    assert model.last_canary().reason == "no_route"


async def test_a_canary_is_believed_for_a_while(swarm: Swarm) -> None:
    """An old token proves nothing; none at all even less."""
    now = 100.0
    model = swarm.engine.model(swarm.model_id)
    canary = Canary(model.remote, model.replicas, period_s=10, max_age_s=30, clock=lambda: now)
    assert canary.state() == CanaryState(ok=False, age_s=None, reason="none_yet")

    await canary.check()
    now += 30
    assert canary.state() == CanaryState(ok=True, age_s=30, reason=None)

    now += 1
    assert canary.state() == CanaryState(ok=False, age_s=31, reason="too_old")


def test_importing_the_engine_is_cheap() -> None:
    """transformers comes with the first tokenizer, in a thread, when the node is up already."""
    code = "import sys, app.inference.engine; sys.exit('transformers' in sys.modules)"

    subprocess.run([sys.executable, "-c", code], check=True)
