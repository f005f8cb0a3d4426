"""Callers who do anything, at servers to which anything happens: right sums, and nothing is left.

The random numbers of a test follow from its seed, which is in its name; the order in which threads
take turns does not.
"""

import asyncio
from dataclasses import dataclass, field
from random import Random

import pytest
import torch
from torch import Tensor

from swarm_client.session import InferenceSession
from swarm_protocol.errors import SwarmError
from tests.chaos.troubled_swarm import TroubledSwarm, hasty_settings, troubled_swarm
from tests.unit.swarm_server.engine.serving.running_sums import HIDDEN_SIZE

_NUM_CALLERS = 5
_SESSIONS_EACH = 25
_MAX_LENGTH = 20


@dataclass
class Caller:
    """Steps, goes back, reorders rows and leaves; knows what it must get.

    Attributes:
        rows: what each row of the session holds.
        num_steps: made in all sessions.
    """

    swarm: TroubledSwarm
    random: Random
    rows: list[list[float]] = field(default_factory=list)
    num_steps: int = 0

    async def run(self) -> None:
        """Use some sessions, one after the other; some will fail."""
        for _ in range(_SESSIONS_EACH):
            self.rows = [[] for _ in range(self.random.choice((1, 1, 2)))]
            try:
                session = await self.swarm.model.open_session(
                    max_length=_MAX_LENGTH, batch_size=len(self.rows), wait_s=2.0
                )
            except SwarmError:
                continue
            try:
                await self._use(session)
            except SwarmError:
                pass  # it ended by an error that callers know
            finally:
                await session.close()

    async def _use(self, session: InferenceSession) -> None:
        for _ in range(self.random.randint(1, 10)):
            if self.random.random() < 0.2:
                kept = self.random.randint(0, len(self.rows[0]))
                session.roll_back(kept)
                self.rows = [row[:kept] for row in self.rows]
            num_tokens = self.random.choice((1, 1, 1, 3, 9))
            if len(self.rows[0]) + num_tokens > _MAX_LENGTH:
                return
            await self._step(session, num_tokens)

    async def _step(self, session: InferenceSession, num_tokens: int) -> None:
        position, order = len(self.rows[0]), self._choose_order()
        new = [[float(self.random.randint(0, 3)) for _ in range(num_tokens)] for _ in self.rows]
        hidden = torch.tensor(new)[..., None].expand(-1, -1, HIDDEN_SIZE).contiguous()
        step = asyncio.create_task(
            session.step(hidden, hypo_ids=None if order is None else torch.tensor(order))
        )
        if self.random.random() < 0.08:
            await self._interfere(session, step)
            if step.cancelled() or step.exception() is not None:
                assert session.is_closed or session.position == position
                return
        outputs = (await step)[:, :, 0]
        kept = self.rows if order is None else [self.rows[index] for index in order]
        self.rows = [[*row, *values] for row, values in zip(kept, new, strict=True)]
        assert torch.equal(outputs, self._expected()[:, position:])
        self.num_steps += 1

    async def _interfere(self, session: InferenceSession, step: asyncio.Task[Tensor]) -> None:
        """Cancel the step or close the session, in any moment; either ends the step soon."""
        for _ in range(self.random.randint(0, 30)):
            await asyncio.sleep(0)
        if self.random.random() < 0.6:
            step.cancel()
        else:
            await session.close()
        async with asyncio.timeout(5):
            await asyncio.wait([step])

    def _choose_order(self) -> list[int] | None:
        if not self.rows[0] or self.random.random() > 0.15:
            return None
        return [self.random.randrange(len(self.rows)) for _ in self.rows]

    def _expected(self) -> Tensor:
        """Return what two blocks make of the rows."""
        return torch.tensor(self.rows).cumsum(1).cumsum(1)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("petals_only", [(), ("server-0", "server-2")], ids=["ours", "mixed"])
@pytest.mark.parametrize("seed", range(4))
async def test_sums_are_right_and_nothing_is_left(seed: int, petals_only: tuple[str, ...]) -> None:
    """Sessions may fail by a `SwarmError`; then no server has memory or work of them."""
    random = Random(seed)
    async with troubled_swarm(hasty_settings(random), petals_only) as swarm:
        callers = [Caller(swarm, Random(f"{seed} {index}")) for index in range(_NUM_CALLERS)]
        trouble = asyncio.create_task(swarm.trouble(random))

        async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
            for caller in callers:
                tasks.create_task(caller.run())
        trouble.cancel()
        await asyncio.wait([trouble])

        assert sum(caller.num_steps for caller in callers) > _NUM_CALLERS
        for server in swarm.servers:
            await server.assert_all_is_free()
