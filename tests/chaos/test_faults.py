"""Faults of a whole swarm while somebody reads: `docs/guide/when-things-break.md` by example."""

from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

from swarm_client.errors import NoRouteError
from swarm_client.session import (
    HopLost,
    HopRestored,
    InferenceSession,
    SessionEvent,
    WaitingForBlocks,
)
from swarm_client.settings import RoutingSettings
from swarm_protocol.identifiers import PeerId
from tests.harness.churn_client import ChurnClient, churn_client
from tests.harness.churn_onlookers import Action, ActsAt
from tests.harness.churn_swarm import ChurnSwarm, Replica
from tests.harness.killing import Force
from tests.harness.programs import DEMO_MODEL
from tests.harness.slowing import slowed

pytestmark = pytest.mark.timeout(120)

STAGE = 1
NUM_TOKENS = 80


@pytest.fixture
async def client(swarm: ChurnSwarm) -> AsyncIterator[ChurnClient]:
    async with churn_client(DEMO_MODEL, swarm.maddr, dtype=torch.float32) as client:
        yield client


def of_stage(swarm: ChurnSwarm, stage: int = STAGE) -> list[Replica]:
    return [replica for replica in swarm.replicas.values() if replica.stage == stage]


def active(session: InferenceSession, stage: int = STAGE) -> PeerId:
    return session.route[stage].peer


async def assert_same_tokens(
    client: ChurnClient, actions: dict[int | type[SessionEvent], Action]
) -> Sequence[SessionEvent]:
    """Sample undisturbed, then while things happen; return the events."""
    prompt = client.prompt(1, 60)
    usual = await client.generate(prompt, NUM_TOKENS, seed=1)
    onlooker = ActsAt(actions)
    try:
        made = await client.generate(prompt, NUM_TOKENS, seed=1, onlooker=onlooker)
    finally:
        await onlooker.finish()
    assert made.tokens == usual.tokens
    return onlooker.events


async def test_blocks_that_nobody_serves_are_waited_for(
    swarm: ChurnSwarm, client: ChurnClient
) -> None:
    """Both servers of a stage die; the reader is told, and reads on when one has come back."""

    def kill_both(_: InferenceSession) -> None:
        for replica in of_stage(swarm):
            swarm.strike(replica, Force.BOTH)

    events = await assert_same_tokens(
        client, {20: kill_both, WaitingForBlocks: lambda _: swarm.restore()}
    )

    waiting = next(event for event in events if isinstance(event, WaitingForBlocks))
    assert waiting.missing == (swarm.spans[STAGE],)
    restored = next(event for event in events if isinstance(event, HopRestored))
    assert 0 < restored.waited_s <= restored.gap_s


async def test_blocks_that_nobody_brings_back_are_one_error(swarm: ChurnSwarm) -> None:
    """It names the blocks, and comes when the time to wait is over."""
    settings = RoutingSettings(wait_for_blocks_s=1)

    def kill_both(_: InferenceSession) -> None:
        for replica in of_stage(swarm):
            swarm.strike(replica, Force.BOTH)

    async with churn_client(
        DEMO_MODEL, swarm.maddr, dtype=torch.float32, settings=settings
    ) as client:
        with pytest.raises(NoRouteError) as caught:
            await assert_same_tokens(client, {20: kill_both})

    assert caught.value.missing == (swarm.spans[STAGE],)


async def test_a_reply_that_comes_too_late_changes_nothing(
    swarm: ChurnSwarm, client: ChurnClient
) -> None:
    """The server stands still for too long, and goes on when another one has its place."""

    def stop(session: InferenceSession) -> None:
        swarm.strike(swarm.replica(active(session)), Force.SILENCE)

    def wake(_: InferenceSession) -> None:
        for replica in of_stage(swarm):
            replica.wake()

    events = await assert_same_tokens(client, {20: stop, HopRestored: wake})

    assert [type(event) for event in events] == [HopLost, HopRestored]


async def test_a_server_that_becomes_five_times_slower_is_not_given_up(
    swarm: ChurnSwarm, client: ChurnClient
) -> None:
    """It may be left for a faster one between two steps; but it is neither late nor banned."""
    prompt = client.prompt(1, 60)
    usual = await client.generate(prompt, NUM_TOKENS)
    peers: list[PeerId] = []
    with ExitStack() as stack:

        def slow_down(session: InferenceSession) -> None:
            peers.append(active(session))
            stack.enter_context(slowed(swarm.replica(peers[0]), times=5))

        onlooker = ActsAt({20: slow_down})
        made = await client.generate(prompt, NUM_TOKENS, onlooker=onlooker)
        await onlooker.finish()

    assert made.tokens == usual.tokens
    reasons = {event.reason for event in onlooker.events if isinstance(event, HopLost)}
    assert reasons <= {"slow"}
    (banned,) = (view.is_banned for view in client.remote.servers() if view.peer == peers[0])
    assert not banned  # records of servers that tests before have killed may be


@pytest.mark.parametrize("skew_s", [2, -2])
async def test_a_clock_that_is_two_seconds_off_is_good_enough(
    swarm: ChurnSwarm, client: ChurnClient, tmp_path: Path, skew_s: int
) -> None:
    """Its owner is found, takes over from others, and serves sessions to come."""
    (tmp_path / "sitecustomize.py").write_text(
        f"import time\nreal = time.time\ntime.time = lambda: real() + {skew_s}\nprint('skewed')\n"
    )
    skewed, other = of_stage(swarm)
    swarm.strike(skewed, Force.BOTH)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(tmp_path))
        swarm.restore()
    await client.remote.refresh()

    await assert_same_tokens(client, {20: lambda _: swarm.strike(other, Force.BOTH)})

    (skewed,) = (replica for replica in of_stage(swarm) if replica.peer != other.peer)
    assert "skewed" in skewed.program.output
    assert skewed.peer in {server.peer for server in client.remote.servers()}
    swarm.strike(skewed, Force.BOTH)  # the next test gets one whose clock is right


async def test_a_swarm_lives_on_without_its_bootstrap_peer() -> None:
    """Sessions go on, callers and servers join by other peers, and losses are made up for."""
    with ChurnSwarm(DEMO_MODEL, ["0:8"], dtype="float32", is_prepared=True) as swarm:
        async with churn_client(DEMO_MODEL, swarm.maddr, dtype=torch.float32) as client:
            await assert_same_tokens(client, {20: lambda _: swarm.lose_bootstrap()})

        async with churn_client(DEMO_MODEL, swarm.maddr, dtype=torch.float32) as client:

            def kill_and_replace(session: InferenceSession) -> None:
                swarm.strike(swarm.replica(active(session, 0)), Force.BOTH)
                swarm.restore()

            await assert_same_tokens(client, {20: kill_and_replace})
            await client.remote.refresh()
            assert {r.peer for r in swarm.replicas.values()} <= {
                server.peer for server in client.remote.servers()
            }
