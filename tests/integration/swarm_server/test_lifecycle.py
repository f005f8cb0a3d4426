"""A server from start to end."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from swarm_protocol.errors import CheckpointError, PeerRefusedError
from swarm_protocol.identifiers import BlockRange
from swarm_protocol.memory_node import MemoryNetwork
from swarm_protocol.messages import ExpertInfo, ExpertUID, parse_message
from swarm_protocol.methods import RPC_INFO
from swarm_protocol.records import MODEL_REGISTRY_KEY, ServerRecord, ServerState
from swarm_protocol.server_info import PeerDescription
from swarm_server.errors import BlockRangeError
from swarm_server.server import BlockServer
from swarm_server.settings import ServerSettings
from tests.harness.server_swarm import server_swarm
from tests.integration.swarm_server.raw_session import RawSession, hidden_states


def records(network: MemoryNetwork, peer: str = "server-0") -> list[ServerRecord | None]:
    """Return what `peer` has published under each block of the tiny Llama."""
    found = [network.records.get(f"tiny-llama.{index}", {}).get(peer) for index in range(4)]
    return [None if record is None else ServerRecord.from_wire(record.value) for record in found]


def states(network: MemoryNetwork, peer: str = "server-0") -> list[ServerState | None]:
    return [None if record is None else record.state for record in records(network, peer)]


async def test_an_online_server_is_found_under_its_blocks(tiny_llama: Path) -> None:
    """With its range, dtype, free memory and measured rates; the model is in the registry."""
    async with server_swarm(tiny_llama, ["1:3"]) as (network, servers):
        none, record, same, last = records(network)
        registry = network.records[MODEL_REGISTRY_KEY]["tiny-llama"].value

    assert none is last is None
    assert record == same
    assert record is not None
    assert record.state == ServerState.ONLINE
    assert (record.start_block, record.end_block, record.torch_dtype) == (1, 3, "float32")
    assert record.cache_tokens_left == 2 * 2 * 4 * 16384  # keys and values, two blocks, promises
    assert record.throughput > 1
    assert record.inference_rps is not None
    assert registry == {"num_blocks": 4, "repository": None}
    assert servers[0].model == str(tiny_llama)


async def test_a_server_announces_how_far_the_next_ones_are(tiny_llama: Path) -> None:
    """Clients choose routes by the links between servers, too."""
    settings = ServerSettings(
        model=str(tiny_llama), dtype="float32", threads=1, update_period_s=0.05
    )
    async with server_swarm(tiny_llama, ["0:2", "2:4", "3:4"], settings) as (network, _):
        async with asyncio.timeout(10):
            while not (record := records(network)[0]) or not record.next_pings:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        last = records(network, "server-1")[3]

    assert record.next_pings == {"server-1": 0.0}
    assert last is not None
    assert not last.next_pings


async def test_the_end_is_announced(tiny_llama: Path) -> None:
    """Under the same blocks, with and without draining first."""
    async with server_swarm(tiny_llama, ["0:2", "2:4"]) as (network, servers):
        await servers[0].drain()

        assert states(network) == [ServerState.OFFLINE, ServerState.OFFLINE, None, None]
        assert states(network, "server-1")[2:] == [ServerState.ONLINE, ServerState.ONLINE]
    assert states(network, "server-1")[2:] == [ServerState.OFFLINE, ServerState.OFFLINE]


async def test_draining_lets_sessions_finish_and_takes_no_new_ones(tiny_llama: Path) -> None:
    """The drain is over when the last session is."""
    async with server_swarm(tiny_llama, ["0:4"]) as (network, (server,)):
        caller = network.node("caller")
        running = await RawSession.start(caller, server)
        await running.step(hidden_states(1, 3))

        draining = asyncio.ensure_future(server.drain())
        await asyncio.sleep(0)
        late = await RawSession.start(caller, server)
        await late.send(hidden_states(1, 1))
        with pytest.raises(PeerRefusedError, match="shutting down"):
            await late.receive()
        await running.step(hidden_states(1, 1))
        assert not draining.done()
        await running.end()

        await draining


async def test_closing_ends_sessions_with_a_reason(tiny_llama: Path) -> None:
    """Drained for no time, a running session gets an error and its memory is back."""
    settings = ServerSettings(model="-", dtype="float32", threads=1, drain_s=0)
    async with server_swarm(tiny_llama, ["0:4"], settings) as (network, (server,)):
        session = await RawSession.start(network.node("caller"), server)
        await session.step(hidden_states(1, 3))

        await server.drain()
        assert server.num_sessions == 1
        await server.close()

        with pytest.raises(PeerRefusedError, match="shutting down"):
            await session.receive()
        assert (server.num_sessions, server.kv_tokens_left) == (0, 4 * 16384)
        late = await RawSession.start(network.node("other"), server)
        with pytest.raises(PeerRefusedError, match="shutting down"):
            await late.step(hidden_states(1, 1))


async def test_an_idle_session_is_ended_without_an_error(tiny_llama: Path) -> None:
    """As stock servers do; its memory is back."""
    settings = ServerSettings(model="-", dtype="float32", threads=1, step_timeout_s=0.05)
    async with server_swarm(tiny_llama, ["0:4"], settings) as (network, (server,)):
        session = await RawSession.start(network.node("caller"), server)
        await session.step(hidden_states(1, 3))

        assert await session.stream.receive() is None

        assert server.num_sessions == 0


async def test_a_session_that_lasts_too_long_is_ended_with_an_error(tiny_llama: Path) -> None:
    """However busy it is."""
    settings = ServerSettings(model="-", dtype="float32", threads=1, session_timeout_s=0.05)
    async with server_swarm(tiny_llama, ["0:4"], settings) as (network, (server,)):
        session = await RawSession.start(network.node("caller"), server, max_length=8192)

        async def step_for_ever() -> None:
            while True:
                await session.step(hidden_states(1, 1))

        with pytest.raises(PeerRefusedError, match=r"lasted longer than 0\.05 seconds"):
            await step_for_ever()

        while server.num_sessions > 0:  # noqa: ASYNC110  (a step may run; the server has no event)
            await asyncio.sleep(0.001)


async def test_a_failed_load_is_announced_and_raised(tiny_llama: Path, tmp_path: Path) -> None:
    """A server that was joining goes offline again."""
    broken = tmp_path / "tiny-llama"
    broken.mkdir()
    for name in ("config.json", "tokenizer.json"):
        (broken / name).write_bytes((tiny_llama / name).read_bytes())
    network = MemoryNetwork()

    with pytest.raises(CheckpointError, match="no weights"):
        await BlockServer.start(
            network.node("server-0"), ServerSettings(model=str(broken), blocks="0:2")
        )

    assert states(network) == [ServerState.OFFLINE, ServerState.OFFLINE, None, None]


async def test_blocks_that_the_model_has_not_are_refused(tiny_llama: Path) -> None:
    """Before anything is announced."""
    network = MemoryNetwork()

    with pytest.raises(BlockRangeError, match="the model has 4 blocks"):
        await BlockServer.start(
            network.node("server-0"), ServerSettings(model=str(tiny_llama), blocks="2:6")
        )

    assert not network.records


async def test_servers_that_choose_their_blocks_cover_the_model(tiny_llama: Path) -> None:
    """Each goes where those before it are not."""
    network = MemoryNetwork()
    settings = ServerSettings(model=str(tiny_llama), num_blocks=2, threads=1)

    servers = [
        await BlockServer.start(network.node(f"server-{index}"), settings) for index in range(2)
    ]

    assert [server.blocks for server in servers] == [BlockRange(0, 2), BlockRange(2, 4)]
    for server in servers:
        await server.close()


async def test_a_bfloat16_server_says_so_and_answers_in_it(tiny_llama: Path) -> None:
    """In its record and in its replies."""
    settings = ServerSettings(model="-", dtype="bfloat16", threads=1)
    async with server_swarm(tiny_llama, ["0:4"], settings) as (network, (server,)):
        session = await RawSession.start(network.node("caller"), server)

        reply = await session.step(hidden_states(1, 3))

        record = records(network)[0]
        assert record is not None
        assert record.torch_dtype == "bfloat16"
        assert reply.dtype == torch.bfloat16


async def test_rpc_info_counts_free_memory_per_block(tiny_llama: Path) -> None:
    """A session of M tokens in B rows over n blocks lowers it by M times B times n (§5.2)."""
    async with server_swarm(tiny_llama, ["0:3"]) as (network, (server,)):
        caller = network.node("caller")

        async def slots_left() -> int:
            request = ExpertUID(uid="tiny-llama.0").SerializeToString()
            reply = await caller.call(server.peer_id, RPC_INFO, request)
            facts = parse_message(ExpertInfo, reply).serialized_info
            return PeerDescription.parse(facts).cache_tokens_left

        session = await RawSession.start(caller, server, max_length=20)
        assert await slots_left() == 3 * 4 * 16384
        await session.step(hidden_states(2, 0))
        assert await slots_left() == 3 * 4 * 16384 - 20 * 2 * 3
        await session.end()
        assert await slots_left() == 3 * 4 * 16384


def test_the_server_starts_without_transformers() -> None:
    """Importing it takes seconds, and the server has its own blocks."""
    program = (
        "import sys, json, swarm_server.server; "
        "print(json.dumps([m for m in ('transformers', 'huggingface_hub') if m in sys.modules]))"
    )
    output = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, text=True
    )

    assert json.loads(output.stdout) == []
