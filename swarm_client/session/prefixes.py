"""How much of a prompt the servers of a session have in common, and need not be sent."""

import asyncio
from collections.abc import Sequence

from swarm_client.session.session_hop import SessionHop
from swarm_client.session.session_hops import SessionHops
from swarm_protocol.errors import DeadlineExceededError, PeerError


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
