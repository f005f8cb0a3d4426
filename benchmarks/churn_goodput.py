"""Tokens per second when servers die at random, of sessions that recover and of ones that do not.

At each step a server of the route dies with the same probability. The clock stands while it is
started again: that is its owner's time, and here it would be the time of our own cores.
"""

import asyncio
import sys
import time
from collections.abc import Mapping
from random import Random
from typing import Final

from swarm_client.session import InferenceSession, SessionEvent
from swarm_protocol.errors import SwarmError
from tests.harness.churn_client import ChurnClient
from tests.harness.churn_swarm import ChurnSwarm
from tests.harness.killing import Force

_PROMPT_TOKENS: Final = 32


class Deaths:
    """An `Onlooker` of many generations, who kills servers at random, as a seed says.

    Attributes:
        num_steps: of all generations, wasted ones too.
        num_struck: servers killed.
        mending_s: how long it took to start them again.
    """

    def __init__(self, swarm: ChurnSwarm, client: ChurnClient, *, rate: float, seed: int) -> None:
        self.num_steps = 0
        self.num_struck = 0
        self.mending_s = 0.0
        self._swarm = swarm
        self._client = client
        self._rate = rate
        self._random = Random(seed)
        self._session: InferenceSession | None = None

    def prefill_begins(self, session: InferenceSession) -> None:
        """A generation begins, maybe anew."""
        self._session = session

    async def token_came(self, num_tokens: int) -> None:
        """Start again who died in this step; maybe let somebody die in the next one."""
        self.num_steps += 1
        await self.mend()
        if self._random.random() < self._rate:
            assert self._session is not None, "a token came out of it"
            hop = self._random.choice(self._session.route)
            self._swarm.strike(self._swarm.replica(hop.peer), Force.BOTH)
            self.num_struck += 1

    def event_came(self, event: SessionEvent) -> None:
        """What counts here is tokens."""

    async def mend(self) -> None:
        """Start the dead again, if there are any."""
        if not self._swarm.struck:
            return
        started_at = time.perf_counter()
        await asyncio.to_thread(self._swarm.restore)
        await self._client.remote.refresh()
        self.mending_s += time.perf_counter() - started_at


async def measure_goodput(
    swarm: ChurnSwarm,
    client: ChurnClient,
    *,
    rate: float,
    seed: int,
    num_tokens: int,
    num_generations: int,
) -> Mapping[str, object]:
    """Return what it took to make so many whole generations."""
    deaths = Deaths(swarm, client, rate=rate, seed=seed)
    started_at = time.perf_counter()
    num_restarts = 0
    for number in range(num_generations):
        prompt = client.prompt(number, _PROMPT_TOKENS)
        while True:
            try:
                await client.generate(prompt, num_tokens, onlooker=deaths)
                break
            except SwarmError:
                num_restarts += 1
                await deaths.mend()
    took_s = time.perf_counter() - started_at - deaths.mending_s
    results = {
        "tokens_per_s": round(num_generations * num_tokens / took_s, 2),
        "deaths": deaths.num_struck,
        "restarts": num_restarts,
        "steps": deaths.num_steps,
        "took_s": round(took_s, 2),
    }
    print(f"{rate:g}: {results}", file=sys.stderr)
    return results
