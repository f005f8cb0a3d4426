"""Several adapters on the same servers at once: each session has its own, and only its own."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from swarm_client.errors import NoRouteError
from swarm_protocol.errors import PeerRefusedError
from swarm_protocol.memory_node import MemoryNetwork
from swarm_protocol.metadata import TrainingMetadata
from swarm_protocol.methods import RPC_FORWARD
from swarm_server.errors import AdapterError
from swarm_server.server import BlockServer
from swarm_server.settings import ServerSettings
from tests.harness.lora_adapters import save_lora
from tests.harness.tiny_models import save_tiny_llama
from tests.integration.adapters.adapted_swarm import (
    PROMPTS,
    AdaptedSwarm,
    adapted_swarm,
    save_two_adapters,
)
from tests.integration.swarm_client.lanes.mixed_swarm import MixedNetwork
from tests.integration.swarm_server.raw_session import hidden_states
from tests.integration.swarm_server.raw_training import call

NAMES = (None, "some", "all")


@pytest.fixture(scope="module")
def adapters(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """`some` and `all`, of the tiny Llama."""
    return save_two_adapters(tmp_path_factory.mktemp("adapters"), tiny_llama)


@pytest.fixture
async def swarm(tiny_llama: Path, adapters: tuple[Path, Path]) -> AsyncIterator[AdaptedSwarm]:
    """Both servers have both adapters."""
    async with adapted_swarm(tiny_llama, adapters) as made:
        yield made


async def start_server(network: MemoryNetwork, model: Path, **fields: Any) -> BlockServer:
    settings = ServerSettings(model=str(model), dtype="float32", threads=1, **fields)
    return await BlockServer.start(network.node("lone"), settings)


async def test_interleaved_sessions_equal_each_alone(swarm: AdaptedSwarm) -> None:
    """Token by token in turns, with both adapters and without; bit for bit."""
    pieces = torch.split(PROMPTS, [5, 1, 1, 4], 1)
    sessions = {name: await swarm.open_session(name) for name in NAMES}
    outputs: dict[str | None, list[Tensor]] = {name: [] for name in NAMES}
    for piece in pieces:
        for name, session in sessions.items():
            outputs[name].append(await swarm.logits(session, piece))

    for name in NAMES:
        async with await swarm.open_session(name) as session:
            alone = [await swarm.logits(session, piece) for piece in pieces]
        assert torch.cat(outputs[name], 1).equal(torch.cat(alone, 1))


@pytest.mark.parametrize("dialect", ["ours", "Petals"])
async def test_whoever_takes_over_uses_the_adapter_as_well(
    tiny_llama: Path, adapters: tuple[Path, Path], dialect: str
) -> None:
    """A lost server is replaced by one that has it, and is sent the history under it."""
    splits = ("0:2", "2:4", "2:4")
    network = MixedNetwork([f"server-{n}" for n in range(3)] if dialect == "Petals" else ())
    async with adapted_swarm(tiny_llama, adapters, splits, network) as swarm:
        pieces = torch.split(PROMPTS, [5, 1, 5], 1)
        async with await swarm.open_session("all") as session:
            outputs = [await swarm.logits(session, pieces[0])]
            lost = session.route[1].peer
            swarm.network.cut(lost)
            outputs += [await swarm.logits(session, piece) for piece in pieces[1:]]
            assert session.route[1].peer != lost
        expected = await swarm.prefill("all")

    # float32 over 4 blocks, in pieces and as a whole
    torch.testing.assert_close(torch.cat(outputs, 1), expected, atol=1e-4, rtol=0)


async def test_sessions_at_the_same_time_equal_each_alone(swarm: AdaptedSwarm) -> None:
    """Their steps meet in the servers in any order."""
    alone = {name: await swarm.prefill(name) for name in NAMES}

    together = await asyncio.gather(*(swarm.prefill(name) for name in NAMES * 3))

    for name, logits in zip(NAMES * 3, together, strict=True):
        assert logits.equal(alone[name])


async def test_the_bare_model_is_what_it_is_without_adapters(
    swarm: AdaptedSwarm, tiny_llama: Path
) -> None:
    """Bit for bit, also after sessions with adapters; and these do change something."""
    some, everything = await swarm.prefill("some"), await swarm.prefill("all")

    async with adapted_swarm(tiny_llama, ()) as plain:
        expected = await plain.prefill(None)

    assert (await swarm.prefill(None)).equal(expected)
    assert (some - expected).abs().max() > 0.1
    assert (everything - some).abs().max() > 0.1


async def test_an_adapter_that_is_not_there_is_refused_by_name(swarm: AdaptedSwarm) -> None:
    """In Petals' words; a client of ours does not get so far."""
    node = swarm.network.node("stranger")
    metadata = TrainingMetadata(active_adapter="theirs")

    with pytest.raises(PeerRefusedError, match="adapter theirs not found"):
        await call(node, swarm.servers[0], RPC_FORWARD, [hidden_states(1, 2)], metadata=metadata)


async def test_routes_need_the_adapter_on_every_block(
    swarm: AdaptedSwarm, tiny_llama: Path
) -> None:
    """A server without it does not fill the gap."""
    await swarm.servers[1].close()
    plain = await start_server(swarm.network, tiny_llama, blocks="2:4")
    for name in (None, "some"):
        await swarm.remotes[name].refresh()

    assert swarm.remotes[None].missing_blocks() == ()
    with pytest.raises(NoRouteError, match="2:4 with the adapter some"):
        await swarm.open_session("some")

    await plain.close()


async def test_a_server_with_an_adapter_of_another_model_does_not_start(
    tiny_llama: Path, tmp_path: Path
) -> None:
    """It says which adapter, and what does not fit."""
    other_model = save_tiny_llama(tmp_path / "model", hidden_size=32)
    adapter = save_lora(tmp_path / "foreign", other_model, ["q_proj"])

    with pytest.raises(AdapterError, match=r"adapter foreign: .*q_proj must have shapes"):
        await start_server(MemoryNetwork(), tiny_llama, adapters=(str(adapter),))


async def test_two_adapters_of_one_name_are_refused(
    tiny_llama: Path, adapters: tuple[Path, Path], tmp_path: Path
) -> None:
    """Nobody could say which of them they want."""
    twin = save_lora(tmp_path / "some", tiny_llama, ["q_proj"])

    with pytest.raises(AdapterError, match="adapter some: another one has the same name"):
        await start_server(MemoryNetwork(), tiny_llama, adapters=(str(adapters[0]), str(twin)))
