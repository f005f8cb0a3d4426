"""Conversations whose beginnings servers have computed before."""

from pathlib import Path

import pytest

from swarm_client.errors import NoRouteError, SessionLostError
from swarm_client.session.events import HopLost, HopRestored, SessionEvent, WaitingForBlocks
from tests.integration.app.inference.swarm import (
    LocalModel,
    collect,
    request_of,
    swarm_of,
)

PROMPT = tuple(3 + index % 200 for index in range(150))
"""Two whole pages, and a part of one."""


async def test_an_equal_beginning_changes_no_token(
    tiny_llama: Path, local_model: LocalModel
) -> None:
    """The second conversation runs only what is not a whole page; timings tell of two hops."""
    expected = local_model.continue_greedily(PROMPT, 6)
    async with swarm_of(tiny_llama) as swarm:
        for _ in range(2):
            conversation = await swarm.open(max_length=200)
            events = await collect(conversation, request_of(PROMPT, 6))
            await conversation.close()

            assert tuple(conversation.token_ids) == PROMPT + expected
            assert all(event.timings and len(event.timings.hops) == 2 for event in events)


async def test_a_server_lost_behind_a_reused_prefix_changes_no_token(
    tiny_llama: Path, local_model: LocalModel
) -> None:
    """Its inputs were never known here, so the conversation begins anew from its tokens."""
    expected = local_model.continue_greedily(PROMPT, 8)
    async with swarm_of(tiny_llama, "2:4") as swarm:
        first = await swarm.open(max_length=200)
        await collect(first, request_of(PROMPT, 1))
        (active,) = (server for server in swarm.servers[1:] if server.num_sessions)
        await first.close()
        second = await swarm.open(max_length=200)
        events = second.generate(request_of(PROMPT, 8))
        await anext(events)

        swarm.network.cut(active.peer_id)

        async for _ in events:
            pass
        assert tuple(second.token_ids) == PROMPT + expected


async def test_a_reused_prefix_is_waited_for_like_any_other(
    tiny_llama: Path, local_model: LocalModel
) -> None:
    """A server that comes back in time changes no token, and its return is told."""
    async with swarm_of(tiny_llama) as swarm:
        only = swarm.servers[1].peer_id
        told: list[SessionEvent] = []

        def come_back(event: SessionEvent) -> None:
            told.append(event)
            if isinstance(event, WaitingForBlocks):
                swarm.network.heal(only)

        first = await swarm.open(max_length=200)
        await collect(first, request_of(PROMPT, 1))
        await first.close()
        second = await swarm.engine.open(swarm.model_id, max_length=200, on_event=come_back)
        events = second.generate(request_of(PROMPT, 8))
        await anext(events)

        swarm.network.cut(only)

        async for _ in events:
            pass
        assert tuple(second.token_ids) == PROMPT + local_model.continue_greedily(PROMPT, 8)
        lost, *_, restored = told
        assert isinstance(lost, HopLost)
        assert isinstance(restored, HopRestored)
        assert restored.blocks == lost.blocks
        assert restored.gap_s >= restored.waited_s > 0


async def test_without_a_standby_the_loss_is_told(tiny_llama: Path) -> None:
    """Beginning anew needs servers, too."""
    async with swarm_of(tiny_llama) as swarm:
        first = await swarm.open(max_length=200)
        await collect(first, request_of(PROMPT, 1))
        await first.close()
        second = await swarm.open(max_length=200)
        events = second.generate(request_of(PROMPT, 8))
        await anext(events)

        swarm.network.cut(swarm.servers[1].peer_id)

        with pytest.raises((NoRouteError, SessionLostError)):
            async for _ in events:
                pass
