"""Steps of a session with an adapter that travel from server to server."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from swarm_protocol.identifiers import BlockRange
from swarm_protocol.metadata import InferenceMetadata, NextServer
from tests.integration.adapters.adapted_swarm import adapted_swarm, save_two_adapters
from tests.integration.swarm_server.raw_session import RawSession, hidden_states


@pytest.mark.parametrize("name", ["some", None])
async def test_a_pushed_step_has_the_adapter_of_the_session_that_it_is_pushed_to(
    tiny_llama: Path, tmp_path: Path, name: str | None
) -> None:
    """The message does not name it: a client says so once, when it opens the session."""
    adapters = save_two_adapters(tmp_path, tiny_llama)
    prefix, token = hidden_states(1, 3), hidden_states(1, 1, seed=1)
    async with adapted_swarm(tiny_llama, adapters) as swarm:
        caller = swarm.network.node("caller")
        first, second, undisturbed = [
            await RawSession.start(caller, swarm.servers[index]) for index in (0, 1, 1)
        ]
        for session in (first, second, undisturbed):
            session.opening = replace(session.opening, active_adapter=name)
            await session.step(prefix)

        session_id = second.opening.session_id
        assert session_id is not None
        following = NextServer(swarm.servers[1].peer_id, session_id, BlockRange(2, 4))
        first.opening = InferenceMetadata(
            session_id=first.opening.session_id, next_servers=(following,)
        )
        first.is_open = False  # so that the next step carries the route
        middle = await first.step(token)

        assert torch.equal(await second.receive(), await undisturbed.step(middle))
