"""More servers of the same blocks are killed than routes are tried; their records outlive them."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
import torch

from swarm_client.connection import RemoteModel
from swarm_client.errors import NoRouteError
from swarm_client.session import HopRestored, InferenceSession, WaitingForBlocks
from swarm_client.settings import RoutingSettings
from tests.harness.churn_client import ChurnClient, churn_client
from tests.harness.churn_onlookers import ActsAt
from tests.harness.churn_swarm import ChurnSwarm
from tests.harness.killing import Force
from tests.harness.programs import DEMO_MODEL

pytestmark = pytest.mark.timeout(180)

WAIT_S = 60.0
SETTINGS = RoutingSettings(wait_for_blocks_s=WAIT_S)
NUM_REPLICAS = SETTINGS.max_retries + 2


@pytest.fixture(scope="module")
def crowd() -> Iterator[ChurnSwarm]:
    """One span, held by more servers than routes are tried. Each test leaves all of them there."""
    with ChurnSwarm(
        DEMO_MODEL, ["0:8"], num_replicas=NUM_REPLICAS, dtype="float32", is_prepared=True
    ) as swarm:
        yield swarm


@pytest.fixture
async def client(crowd: ChurnSwarm) -> AsyncIterator[ChurnClient]:
    async with churn_client(
        DEMO_MODEL, crowd.maddr, dtype=torch.float32, settings=SETTINGS
    ) as client:
        yield client


def kill_all(crowd: ChurnSwarm) -> None:
    for replica in crowd.replicas.values():
        crowd.strike(replica, Force.BOTH)


async def opens(remote: RemoteModel, waiting: asyncio.Event) -> str:
    """Open a session that may wait, and return the peer that it has found."""

    def hear(event: object) -> None:
        assert isinstance(event, WaitingForBlocks)
        waiting.set()

    async with await remote.open_session(max_length=8, wait_s=WAIT_S, on_event=hear) as session:
        return session.route[0].peer


async def test_a_session_waits_for_blocks_however_many_of_their_servers_were_killed(
    crowd: ChurnSwarm, client: ChurnClient
) -> None:
    """Who may not wait is told which blocks are missing, and who may is told for what."""
    kill_all(crowd)

    with pytest.raises(NoRouteError, match="0:8"):
        await client.remote.open_session(max_length=8)
    waiting = asyncio.Event()
    opening = asyncio.create_task(opens(client.remote, waiting))
    async with asyncio.timeout(20):
        await waiting.wait()
    await asyncio.to_thread(crowd.restore)

    assert await opening in {replica.peer for replica in crowd.replicas.values()}


async def test_a_generation_goes_on_however_many_of_its_servers_were_killed(
    crowd: ChurnSwarm, client: ChurnClient
) -> None:
    """All at once in the middle of it; no token is another one when they have come back."""
    prompt = client.prompt(1, 60)
    usual = await client.generate(prompt, 40, seed=1)

    def kill(_: InferenceSession) -> None:
        kill_all(crowd)

    onlooker = ActsAt({20: kill, WaitingForBlocks: lambda _: crowd.restore()})
    made = await client.generate(prompt, 40, seed=1, onlooker=onlooker)
    await onlooker.finish()

    assert made.tokens == usual.tokens
    assert any(isinstance(event, HopRestored) for event in onlooker.events)
