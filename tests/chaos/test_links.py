"""Links that are cut, half open, slow or lossy while somebody reads."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import pytest

from swarm_client.session import HopLost, HopRestored, InferenceSession, WaitingForBlocks
from swarm_client.settings import RoutingSettings
from tests.harness.churn_client import ChurnClient
from tests.harness.churn_onlookers import Action, ActsAt
from tests.harness.network.emulated_network import EmulatedNetwork, emulated_network
from tests.harness.network.hosts import Host
from tests.harness.network.link import LinkTerms
from tests.harness.network.linked_swarm import LinkedPeer, linked_client, linked_swarm
from tests.harness.programs import DEMO_MODEL

pytestmark = pytest.mark.timeout(60)

SPANS = ("0:4", "4:8", "4:8")
SETTINGS = RoutingSettings(request_timeout_s=2)
PATIENT = RoutingSettings(request_timeout_s=2, late_margin_s=5)
NUM_TOKENS = 45


@dataclass(frozen=True, slots=True)
class Swarm:
    """A client's host, a bootstrap peer, one server of blocks 0:4 and two of blocks 4:8."""

    network: EmulatedNetwork
    client_host: Host
    bootstrap: LinkedPeer
    front: LinkedPeer
    backs: tuple[LinkedPeer, LinkedPeer]

    def active(self, session: InferenceSession) -> LinkedPeer:
        """Return the server of blocks 4:8 that the session uses."""
        return next(back for back in self.backs if back.peer == session.route[1].peer)


class Moved(NamedTuple):
    """The servers of blocks 4:8 that a session used before something happened, and at its end."""

    before: LinkedPeer
    after: LinkedPeer


@pytest.fixture(scope="module")
def running() -> Iterator[Swarm]:
    with emulated_network(2 + len(SPANS)) as network:
        client_host, *hosts = network.hosts
        with linked_swarm(DEMO_MODEL, SPANS, hosts) as (bootstrap, front, *backs):
            yield Swarm(network, client_host, bootstrap, front, (backs[0], backs[1]))


@pytest.fixture
def swarm(running: Swarm) -> Iterator[Swarm]:
    """Its links are perfect at the beginning of a test."""
    yield running
    running.network.shape_all(LinkTerms())


@pytest.fixture
async def client(swarm: Swarm) -> AsyncIterator[ChurnClient]:
    async with linked_client(
        DEMO_MODEL, swarm.client_host, swarm.front.maddr, settings=SETTINGS
    ) as client:
        yield client


async def assert_same_tokens(
    client: ChurnClient, onlooker: ActsAt, num_tokens: int = NUM_TOKENS
) -> None:
    """Sample undisturbed, then while things happen."""
    prompt = client.prompt(1, 40)
    usual = await client.generate(prompt, num_tokens, seed=1)
    made = await client.generate(prompt, num_tokens, seed=1, onlooker=onlooker)
    await onlooker.finish()
    assert made.tokens == usual.tokens


async def generate_while(swarm: Swarm, client: ChurnClient, action: Action) -> Moved:
    """Let something happen after a third of the tokens, which must not change any."""
    used: list[LinkedPeer] = []
    onlooker = ActsAt(
        {
            NUM_TOKENS // 3 - 1: lambda session: used.append(swarm.active(session)),
            NUM_TOKENS // 3: action,
            NUM_TOKENS: lambda session: used.append(swarm.active(session)),
        }
    )
    await assert_same_tokens(client, onlooker)
    return Moved(*used)


async def test_a_server_that_nobody_reaches_any_more_is_replaced(
    swarm: Swarm, client: ChurnClient
) -> None:
    """Its links are cut without a word, as when a cable is pulled."""
    moved = await generate_while(
        swarm, client, lambda session: swarm.network.isolate(swarm.active(session).host)
    )

    assert moved.before is not moved.after


async def test_a_server_whose_replies_get_lost_is_replaced(
    swarm: Swarm, client: ChurnClient
) -> None:
    """A half-open connection: it gets what it is sent."""
    moved = await generate_while(
        swarm,
        client,
        lambda session: swarm.network.cut(swarm.active(session).host, swarm.client_host),
    )

    assert moved.before is not moved.after


async def test_a_server_that_no_longer_hears_its_client_costs_no_token(
    swarm: Swarm, client: ChurnClient
) -> None:
    """It still gets what others push, and answers, as long as its connection does without us."""
    await generate_while(
        swarm,
        client,
        lambda session: swarm.network.cut(swarm.client_host, swarm.active(session).host),
    )


async def test_servers_that_do_not_reach_each_other_go_on_through_the_client(
    swarm: Swarm, client: ChurnClient
) -> None:
    """What a server pushes gets lost; the client sends it instead, and leaves nobody."""
    moved = await generate_while(
        swarm,
        client,
        lambda session: swarm.network.cut(swarm.front.host, swarm.active(session).host),
    )

    assert moved.before is moved.after


async def test_a_silent_bootstrap_peer_is_not_missed(swarm: Swarm, client: ChurnClient) -> None:
    """It is out of reach when a server is lost, and when others join by another peer."""
    swarm.network.isolate(swarm.bootstrap.host)

    moved = await generate_while(
        swarm, client, lambda session: swarm.network.isolate(swarm.active(session).host)
    )

    assert moved.before is not moved.after
    async with linked_client(DEMO_MODEL, swarm.client_host, swarm.front.maddr) as late:
        assert late.remote.missing_blocks() == ()


async def test_lost_packets_cost_time_and_nothing_else(swarm: Swarm, client: ChurnClient) -> None:
    """One in fifty, and arrival times that vary: connections make up for them."""
    if swarm.network.shortfall:
        pytest.skip(swarm.network.shortfall)
    lossy = LinkTerms(delay_s=0.005, jitter_s=0.004, loss=0.02)

    moved = await generate_while(swarm, client, lambda _: swarm.network.shape_all(lossy))

    assert moved.before is moved.after


async def test_a_partition_is_waited_out(swarm: Swarm, client: ChurnClient) -> None:
    """The caller is told which blocks are out of reach, and reads on when the links are mended."""

    def set_partition(*, is_cut: bool) -> None:
        for back in swarm.backs:
            swarm.network.isolate(back.host, is_cut=is_cut)

    onlooker = ActsAt(
        {
            NUM_TOKENS // 3: lambda _: set_partition(is_cut=True),
            WaitingForBlocks: lambda _: set_partition(is_cut=False),
        }
    )

    await assert_same_tokens(client, onlooker)

    kinds = [type(event) for event in onlooker.events]
    assert WaitingForBlocks in kinds
    assert kinds[-1] is HopRestored


async def test_a_server_behind_a_slow_link_is_left_between_two_steps(swarm: Swarm) -> None:
    """200 ms each way, after 60. The session moves beside its steps.

    Less would not be much beside what the other server has promised when it started on a busy
    machine. At once it would be too much: a ping that takes so long for the first time is taken
    for none.
    """
    used: list[LinkedPeer] = []

    def slow_down(delay_s: float) -> Action:
        def act(session: InferenceSession) -> None:
            used.append(swarm.active(session))
            for host in swarm.network.hosts:
                if host is not used[0].host:
                    swarm.network.link(host, used[0].host, LinkTerms(delay_s=delay_s))

        return act

    onlooker = ActsAt(
        {
            NUM_TOKENS // 3: slow_down(0.06),
            NUM_TOKENS: slow_down(0.2),
            2 * NUM_TOKENS: lambda session: used.append(swarm.active(session)),
        }
    )

    async with linked_client(
        DEMO_MODEL, swarm.client_host, swarm.front.maddr, settings=PATIENT
    ) as client:
        await assert_same_tokens(client, onlooker, 2 * NUM_TOKENS)  # what is usual changes slowly

    assert used[0] is not used[-1]
    losses = [event for event in onlooker.events if isinstance(event, HopLost)]
    assert [loss.reason for loss in losses] == ["slow"]
