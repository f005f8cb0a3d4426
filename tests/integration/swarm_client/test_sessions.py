"""The asynchronous core over real block servers: tokens, failures, recovery of the swarm."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from swarm_client.connection import RemoteModel, SwarmConnection
from swarm_client.errors import CapacityError, NoRouteError
from swarm_client.models import LocalParts, load_local_parts, read_facts
from swarm_client.session import InferenceSession
from swarm_client.settings import RoutingSettings
from swarm_protocol.checkpoint import Checkpoint
from swarm_protocol.memory_node import MemoryNetwork
from swarm_server.server import BlockServer
from swarm_server.settings import ServerSettings
from tests.harness.server_swarm import server_swarm

PROMPT = [1, 50, 60, 70, 80]
HALVES = ["0:2", "2:4"]


@dataclass(frozen=True, slots=True)
class Client:
    network: MemoryNetwork
    servers: list[BlockServer]
    model: RemoteModel
    parts: LocalParts

    async def next_token(self, session: InferenceSession, token_ids: Sequence[int]) -> int:
        hidden = await session.step(self.parts.embed(torch.tensor([token_ids])))
        return int(self.parts.logits(hidden[:, -1]).argmax())

    async def greedy(self, session: InferenceSession, num_new: int) -> list[int]:
        tokens = [await self.next_token(session, PROMPT)]
        while len(tokens) < num_new:
            tokens.append(await self.next_token(session, tokens[-1:]))
        return tokens


@asynccontextmanager
async def client_of(
    model: Path,
    splits: Sequence[str],
    settings: ServerSettings | None = None,
    routing: RoutingSettings | None = None,
) -> AsyncIterator[Client]:
    checkpoint = Checkpoint.open(str(model))
    async with server_swarm(model, splits, settings) as (network, servers):
        connection = SwarmConnection(network.node("client"), routing or RoutingSettings())
        remote = await connection.watch(read_facts(checkpoint))
        parts = load_local_parts(checkpoint, dtype=torch.float32)
        yield Client(network, servers, remote, parts)
        await connection.close()


def room_for_one(model: Path) -> ServerSettings:
    """Return settings of a server with KV memory for one session of 60 tokens."""
    return ServerSettings(
        model=str(model), dtype="float32", threads=1, kv_tokens=64, kv_overcommit=1.0
    )


@pytest.fixture(scope="module")
def expected(tiny_llama: Path) -> list[int]:
    """Greedy tokens after `PROMPT`, as transformers generates them."""
    model = LlamaForCausalLM.from_pretrained(tiny_llama)
    tokens = model.generate(torch.tensor([PROMPT]), max_new_tokens=10, do_sample=False)
    new: list[int] = tokens[0, len(PROMPT) :].tolist()
    return new


async def test_many_sessions_at_once_do_not_mix(tiny_llama: Path, expected: list[int]) -> None:
    """Each has its own KV cache on every server."""
    async with client_of(tiny_llama, HALVES) as client:
        sessions = [await client.model.open_session(max_length=20) for _ in range(5)]

        results = await asyncio.gather(*(client.greedy(session, 10) for session in sessions))

        assert all(tokens == expected for tokens in results)
        assert [server.num_sessions for server in client.servers] == [5, 5]
        await asyncio.gather(*(session.close() for session in sessions))
        assert [server.num_sessions for server in client.servers] == [0, 0]


async def test_a_chunked_prefill_equals_a_whole_one(tiny_llama: Path, expected: list[int]) -> None:
    """Chunks meet in the servers' KV caches."""
    async with client_of(tiny_llama, HALVES) as client:
        whole = await client.model.open_session(max_length=20)
        split = await client.model.open_session(max_length=20)

        await split.step(client.parts.embed(torch.tensor([PROMPT[:2]])))
        await split.step(client.parts.embed(torch.tensor([PROMPT[2:4]])))

        assert await client.next_token(split, PROMPT[4:]) == expected[0]
        assert await client.next_token(whole, PROMPT) == expected[0]


async def test_a_lost_server_is_avoided_and_its_twin_takes_over(
    tiny_llama: Path, expected: list[int]
) -> None:
    """The session goes on with the same tokens, and new ones use the twin from the start."""
    async with client_of(tiny_llama, [*HALVES, "2:4"]) as client:
        session = await client.model.open_session(max_length=20)
        tokens = await client.greedy(session, 3)
        lost = session.route[1].peer
        client.network.cut(lost)
        while len(tokens) < 10:
            tokens.append(await client.next_token(session, tokens[-1:]))

        assert tokens == expected
        assert session.route[1].peer != lost
        assert client.model.missing_blocks() == ()
        async with await client.model.open_session(max_length=20) as again:
            assert again.route[1].peer != lost


async def test_the_swarm_recovers_when_its_only_server_returns(
    tiny_llama: Path, expected: list[int]
) -> None:
    """While it is gone the gap is named; after that nobody waits for a ban to end."""
    at_once = RoutingSettings(wait_for_blocks_s=0)
    async with client_of(tiny_llama, HALVES, routing=at_once) as client:
        session = await client.model.open_session(max_length=20)
        tokens = await client.greedy(session, 2)
        client.network.cut(client.servers[1].peer_id)
        with pytest.raises(NoRouteError, match="2:4"):
            await client.next_token(session, tokens[-1:])
        with pytest.raises(NoRouteError, match="2:4"):
            await client.model.open_session(max_length=20)

        client.network.heal(client.servers[1].peer_id)

        async with await client.model.open_session(max_length=20) as again:
            assert await client.greedy(again, 10) == expected
        while len(tokens) < 10:
            tokens.append(await client.next_token(session, tokens[-1:]))
        assert tokens == expected


async def test_a_cancelled_step_frees_the_servers_memory(tiny_llama: Path) -> None:
    """A caller who leaves in mid-stream keeps nothing."""
    async with client_of(tiny_llama, HALVES) as client:
        free = [server.kv_tokens_left for server in client.servers]
        session = await client.model.open_session(max_length=400)
        step = asyncio.create_task(client.next_token(session, PROMPT * 70))
        while client.servers[0].num_sessions == 0:  # noqa: ASYNC110  (the server has no event)
            await asyncio.sleep(0.001)

        step.cancel()
        await asyncio.wait([step])

        assert step.cancelled()
        while [s.kv_tokens_left for s in client.servers] != free:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def test_a_full_server_refuses_and_serves_again_later(
    tiny_llama: Path, expected: list[int]
) -> None:
    """Memory is reserved for the whole session, and comes back with its end."""
    at_once = RoutingSettings(kv_wait_s=0)
    async with client_of(tiny_llama, ["0:4"], room_for_one(tiny_llama), at_once) as client:
        first = await client.model.open_session(max_length=60)
        await client.next_token(first, PROMPT)
        second = await client.model.open_session(max_length=60)

        with pytest.raises(CapacityError):
            await client.next_token(second, PROMPT)

        await first.close()
        async with await client.model.open_session(max_length=60) as third:
            assert await client.greedy(third, 10) == expected


async def test_a_full_server_is_waited_for(tiny_llama: Path, expected: list[int]) -> None:
    """A session that ends meanwhile makes room for the next one."""
    async with client_of(tiny_llama, ["0:4"], room_for_one(tiny_llama)) as client:
        first = await client.model.open_session(max_length=60)
        await client.next_token(first, PROMPT)
        async with await client.model.open_session(max_length=60) as second:
            tokens = asyncio.create_task(client.greedy(second, 10))
            while client.servers[0].num_sessions < 2:  # noqa: ASYNC110  (the server has no event)
                await asyncio.sleep(0.001)

            await first.close()

            assert await tokens == expected


async def test_a_rollback_equals_a_session_that_never_went_there(
    tiny_llama: Path, expected: list[int]
) -> None:
    """Our servers prove that they can."""
    async with client_of(tiny_llama, HALVES) as client:
        session = await client.model.open_session(max_length=20)
        await client.greedy(session, 6)

        session.roll_back(3)

        assert await client.next_token(session, PROMPT[3:]) == expected[0]
        assert session.position == len(PROMPT)


async def test_beams_may_change_places(tiny_llama: Path) -> None:
    """`hypo_ids` reorder the KV caches of every hop."""
    rows = torch.tensor([[1, 5, 9], [1, 70, 80]])
    async with client_of(tiny_llama, HALVES) as client:
        swapped = await client.model.open_session(max_length=20, batch_size=2)
        straight = await client.model.open_session(max_length=20, batch_size=2)
        await swapped.step(client.parts.embed(rows))
        await straight.step(client.parts.embed(rows.flip(0)))
        token = client.parts.embed(torch.tensor([[4], [4]]))

        output = await swapped.step(token, hypo_ids=torch.tensor([1, 0]))

        # float32 rounding of the same sums in another batch order
        torch.testing.assert_close(output, await straight.step(token), atol=1e-5, rtol=1e-5)
