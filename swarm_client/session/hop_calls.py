"""Calls to the servers of a session, and what they change in its hops."""

import asyncio
from collections.abc import Sequence
from time import monotonic

from torch import Tensor

from swarm_client.session.hop_session import StepInputs
from swarm_client.session.session_hop import SessionHop
from swarm_client.session.session_hops import SessionHops
from swarm_protocol.errors import DeadlineExceededError, PeerError


async def exchange(hop: SessionHop, inputs: StepInputs) -> Tensor:
    """Run a step, or a chunk of it, through one hop.

    Raises:
        PeerError, DeadlineExceededError: see `HopSession.step`.
    """
    started_at = monotonic()  # the clock of event loops
    output = await hop.session.step(inputs, position=hop.history.num_tokens)
    now = monotonic()
    hop.step_finished(inputs, output, now - started_at, now)
    return output.hidden


async def match_prefix(hops: SessionHops, token_ids: Sequence[int]) -> int:
    """Return how many of the tokens to come all servers have cached.

    A server that fails has none; the first step finds another one.
    """

    async def match(hop: SessionHop) -> int:
        try:
            return await hop.session.match_prefix(token_ids)
        except (PeerError, DeadlineExceededError):
            hop.is_usable = False
            return 0

    return min(await asyncio.gather(*map(match, hops)))
