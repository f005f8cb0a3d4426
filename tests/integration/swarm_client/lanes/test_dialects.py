"""Both dialects over real block servers: equal tokens, shared streams, losses, prefixes."""

import asyncio
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from swarm_client.settings import RoutingSettings
from swarm_protocol.dialect.methods import STEPS
from swarm_protocol.methods import RPC_INFERENCE
from tests.integration.swarm_client.lanes.mixed_swarm import MixedNetwork, mixed_swarm

PROMPT = [1, 50, 60, 70, 80]
HALVES = ["0:2", "2:4"]


@pytest.fixture(scope="module")
def local_model(tiny_llama: Path) -> LlamaForCausalLM:
    """The same model in transformers: what all output must equal."""
    return LlamaForCausalLM.from_pretrained(tiny_llama)


def continue_greedily(model: LlamaForCausalLM, prompt: list[int], num_new: int) -> list[int]:
    output = model.generate(
        torch.tensor([prompt]), max_new_tokens=num_new, do_sample=False, eos_token_id=None
    )
    new: list[int] = output[0, len(prompt) :].tolist()
    return new


@pytest.mark.parametrize(
    "petals_only",
    [(), ("server-0",), ("server-1",), ("server-0", "server-1")],
    ids=["ours", "Petals first", "Petals last", "Petals"],
)
async def test_tokens_are_equal_whatever_the_servers_speak(
    tiny_llama: Path, local_model: LlamaForCausalLM, petals_only: tuple[str, ...]
) -> None:
    """Each server is spoken to in its own dialect."""
    async with mixed_swarm(tiny_llama, HALVES, petals_only) as client:
        async with await client.model.open_session(max_length=30) as session:
            tokens = await client.greedy(session, PROMPT, 10)

        assert tokens == continue_greedily(local_model, PROMPT, 10)
        for server in ("server-0", "server-1"):
            method = RPC_INFERENCE if server in petals_only else STEPS
            assert client.network.num_streams[server, method] == 1


@pytest.mark.parametrize(
    ("petals_only", "without_flags"),
    [
        ((), ()),
        (("server-0",), ()),
        (("server-1",), ()),
        ((), ("server-0",)),
        ((), ("server-1",)),
    ],
    ids=["ours", "Petals first", "Petals last", "older first", "older last"],
)
async def test_of_a_prompt_the_last_server_sends_one_token_if_it_knows_how(
    tiny_llama: Path,
    local_model: LlamaForCausalLM,
    petals_only: tuple[str, ...],
    without_flags: tuple[str, ...],
) -> None:
    """As long as all know it through whom it hears of that; tokens are the same in any case."""
    prompt = [1, *range(40, 140)]
    network = MixedNetwork(petals_only, without_flags)
    async with mixed_swarm(tiny_llama, HALVES, network=network) as client:
        async with await client.model.open_session(max_length=120) as session:
            tokens = await client.greedy(session, prompt, 5)

        assert tokens == continue_greedily(local_model, prompt, 5)
        prompt_bytes = 4 * client.model.facts.hidden_size * len(prompt)
        sends_all = without_flags != () or "server-1" in petals_only
        assert network.received_bytes["server-0"] > prompt_bytes
        assert (network.received_bytes["server-1"] > prompt_bytes) == sends_all


@pytest.mark.parametrize("lost", [0, 1])
async def test_a_server_lost_in_the_middle_of_a_prompt_changes_no_token(
    tiny_llama: Path, local_model: LlamaForCausalLM, lost: int
) -> None:
    """The standby is sent what the lost one had been sent; of that, too, one token comes back."""
    prompt = [1, *range(40, 140)]
    routing = RoutingSettings(prefill_chunk_tokens=10, ban_s=0.1)
    async with mixed_swarm(tiny_llama, [*HALVES, *HALVES], routing=routing) as client:
        received_bytes = client.network.received_bytes
        async with await client.model.open_session(max_length=120) as session:
            gone = session.route[lost].peer
            generating = asyncio.create_task(client.greedy(session, prompt, 5))
            while received_bytes[gone] < 500:  # noqa: ASYNC110  (a stream has no event)
                await asyncio.sleep(0)
            assert session.position == 0
            client.network.cut(gone)

            tokens = await generating
            assert gone not in [hop.peer for hop in session.route]

    assert tokens == continue_greedily(local_model, prompt, 5)
    last = received_bytes["server-1"] + received_bytes["server-3"]
    assert last < 4 * client.model.facts.hidden_size * len(prompt)


async def test_sessions_at_once_share_one_stream_to_each_server(
    tiny_llama: Path, local_model: LlamaForCausalLM
) -> None:
    """Prompts differ in length, so steps of all kinds meet in a frame."""
    prompts = [[1, *range(40, 41 + index)] for index in range(8)]
    async with mixed_swarm(tiny_llama, HALVES) as client:
        sessions = [await client.model.open_session(max_length=30) for _ in prompts]

        results = await asyncio.gather(
            *(
                client.greedy(session, prompt, 10)
                for session, prompt in zip(sessions, prompts, strict=True)
            )
        )

        assert results == [continue_greedily(local_model, prompt, 10) for prompt in prompts]
        assert [client.network.num_streams[f"server-{i}", STEPS] for i in (0, 1)] == [1, 1]


async def test_a_killed_server_changes_no_token_of_any_session(
    tiny_llama: Path, local_model: LlamaForCausalLM
) -> None:
    """All sessions of its lane move to the replica, which is sent what they had sent."""
    async with mixed_swarm(tiny_llama, [*HALVES, "2:4"]) as client:
        sessions = [await client.model.open_session(max_length=30) for _ in range(4)]
        starts = await asyncio.gather(*(client.greedy(session, PROMPT, 4) for session in sessions))
        client.network.cut(sessions[0].route[1].peer)

        ends = await asyncio.gather(
            *(
                client.greedy(session, start[-1:], 6)
                for session, start in zip(sessions, starts, strict=True)
            )
        )

        expected = continue_greedily(local_model, PROMPT, 10)
        assert [[*s, *e] for s, e in zip(starts, ends, strict=True)] == [expected] * 4


async def test_a_rollback_needs_no_replay_in_our_dialect(
    tiny_llama: Path, local_model: LlamaForCausalLM
) -> None:
    """Every step says where it begins; pushed ones, too."""
    async with mixed_swarm(tiny_llama, HALVES) as client:
        session = await client.model.open_session(max_length=30)
        await client.greedy(session, PROMPT, 6)

        session.roll_back(3)

        assert await client.greedy(session, PROMPT[3:], 5) == continue_greedily(
            local_model, PROMPT, 5
        )


async def test_a_caller_who_leaves_frees_the_memory_of_both_servers(tiny_llama: Path) -> None:
    """In the middle of a step; neighbours on the same streams go on."""
    async with mixed_swarm(tiny_llama, HALVES) as client:
        staying = await client.model.open_session(max_length=30)
        leaving = await client.model.open_session(max_length=30)
        kept = asyncio.create_task(client.greedy(staying, PROMPT, 8))
        left = asyncio.create_task(client.greedy(leaving, PROMPT, 20))
        while leaving.position == 0:  # noqa: ASYNC110  (a session has no event)
            await asyncio.sleep(0)

        left.cancel()
        await asyncio.wait([left])
        await leaving.close()

        assert len(await kept) == 8
        await staying.close()
        while any(server.num_sessions for server in client.servers):  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def test_an_equal_prompt_of_the_same_tenant_is_computed_once(
    tiny_llama: Path, local_model: LlamaForCausalLM
) -> None:
    """The second session begins behind the pages of the first one, with the same tokens."""
    system_prompt = [1, *(3 + index % 200 for index in range(999))]
    prompt = [*system_prompt, 7, 8, 9]
    async with mixed_swarm(tiny_llama, HALVES) as client:
        positions = []
        for tenant in ("a", "a", "b"):
            async with await client.model.open_session(max_length=1100, tenant=tenant) as session:
                await session.reuse_prefix(prompt)
                positions.append(session.position)
                tokens = await client.greedy(session, prompt[session.position :], 5)
            assert tokens == continue_greedily(local_model, prompt, 5)

        assert positions[0] == positions[2] == 0
        assert len(prompt) - positions[1] <= len(prompt) / 10
