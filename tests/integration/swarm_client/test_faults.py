"""Whatever happens to a server in whatever moment: the tokens are those of an undisturbed run.

Each fault is met in both dialects. Real processes are killed in `tests/chaos`.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from swarm_client import RoutingSettings
from swarm_client.session import HopLost, HopRestored, InferenceSession, SessionEvent
from swarm_protocol.identifiers import PeerId
from swarm_server.server import BlockServer
from swarm_server.settings import ServerSettings
from tests.integration.swarm_client.lanes.faulty_network import Fault, FaultyNetwork
from tests.integration.swarm_client.lanes.mixed_swarm import Client, mixed_swarm

PROMPT = [1, *range(40, 60)]
NUM_NEW = 10
STAGES = ["0:1", "1:3", "3:4"]
TWICE = [*STAGES, *STAGES]
HASTY = RoutingSettings(
    first_patience_s=0.2,
    late_margin_s=0.2,
    late_factor=2.0,
    kv_wait_s=0.0,
    hedge_after_s=0.1,
    prefill_chunk_tokens=6,
)
DIALECTS = pytest.mark.parametrize("dialect", ["ours", "Petals"])
FAULTS = pytest.mark.parametrize("fault", list(Fault), ids=lambda fault: fault.name.lower())


@pytest.fixture(scope="module")
def local_model(tiny_llama: Path) -> LlamaForCausalLM:
    """The same model in transformers: what all output must equal."""
    return LlamaForCausalLM.from_pretrained(tiny_llama)


@pytest.fixture(scope="module")
def expected(local_model: LlamaForCausalLM) -> list[int]:
    """Greedy tokens after `PROMPT`."""
    output = local_model.generate(
        torch.tensor([PROMPT]), max_new_tokens=NUM_NEW, do_sample=False, eos_token_id=None
    )
    new: list[int] = output[0, len(PROMPT) :].tolist()
    return new


class Disturbed:
    """A client of a swarm in which something happens."""

    def __init__(self, client: Client, network: FaultyNetwork) -> None:
        self.client = client
        self.network = network
        self.events: list[SessionEvent] = []
        self._struck: set[PeerId] = set()

    async def open(self, batch_size: int = 1) -> InferenceSession:
        return await self.client.model.open_session(
            max_length=60, batch_size=batch_size, on_event=self.events.append
        )

    def strike(self, session: InferenceSession, stage: int, fault: Fault) -> None:
        peer = session.route[stage].peer
        self._struck.add(peer)
        self.network.strike(peer, fault)

    def num_lost(self) -> int:
        """Count losses of struck servers, having seen that all have been made up for.

        Others may be lost for one reason: `HASTY` takes whoever a busy machine keeps for late.
        """
        lost = [event for event in self.events if isinstance(event, HopLost)]
        assert len(lost) == sum(isinstance(event, HopRestored) for event in self.events)
        assert {e.reason for e in lost if e.peer not in self._struck} <= {"late", "slow"}
        return sum(event.peer in self._struck for event in lost)

    def embed(self, *rows: list[int]) -> Tensor:
        return self.client.parts.embed(torch.tensor(rows))


@asynccontextmanager
async def disturbed(
    model: Path,
    dialect: str,
    splits: list[str] = TWICE,
    routing: RoutingSettings = HASTY,
) -> AsyncIterator[Disturbed]:
    names = [f"server-{index}" for index in range(len(splits))]
    network = FaultyNetwork([*names, "joined"] if dialect == "Petals" else ())
    async with mixed_swarm(model, splits, routing=routing, network=network) as client:
        yield Disturbed(client, network)


@asynccontextmanager
async def joined(model: Path, network: FaultyNetwork, blocks: str) -> AsyncIterator[None]:
    """Let a server called `joined` come, and go at the end."""
    settings = ServerSettings(model=str(model), blocks=blocks, dtype="float32", threads=1)
    node = network.node("joined")
    server = await BlockServer.start(node, settings)
    yield
    await server.close()
    await node.close()


@DIALECTS
@FAULTS
@pytest.mark.parametrize(("position", "stage"), [(0, 1), (1, 2), (5, 0)])
async def test_no_token_changes(
    tiny_llama: Path, expected: list[int], dialect: str, fault: Fault, position: int, stage: int
) -> None:
    """In the prefill, in the first decode or in a later one; at each place of the route."""
    async with disturbed(tiny_llama, dialect) as swarm, await swarm.open() as session:
        tokens = await swarm.client.greedy(session, PROMPT, position) if position else []
        swarm.strike(session, stage, fault)
        while len(tokens) < NUM_NEW:
            tokens.append(await swarm.client.next_token(session, tokens[-1:] or PROMPT))

        assert tokens == expected
        num_lost = swarm.num_lost()
        if fault not in (Fault.RESET, Fault.LATE) or position:
            assert num_lost == 1


@DIALECTS
@pytest.mark.parametrize("fault", [Fault.CUT, Fault.SILENT, Fault.GARBAGE])
async def test_all_servers_of_a_route_may_be_lost_at_once(
    tiny_llama: Path, expected: list[int], dialect: str, fault: Fault
) -> None:
    """Each is replaced by its replica."""
    async with disturbed(tiny_llama, dialect) as swarm, await swarm.open() as session:
        tokens = await swarm.client.greedy(session, PROMPT, 4)
        for stage in range(3):
            swarm.strike(session, stage, fault)
        tokens += await swarm.client.greedy(session, tokens[-1:], NUM_NEW - 4)

        assert tokens == expected
        assert swarm.num_lost() == 3


@DIALECTS
async def test_one_server_after_the_other_may_be_lost(
    tiny_llama: Path, expected: list[int], dialect: str
) -> None:
    """A loss at every step, in every way; two smaller servers stand by for a larger one."""
    splits = [*TWICE, "1:2", "2:3", "0:1", "3:4"]
    async with disturbed(tiny_llama, dialect, splits) as swarm, await swarm.open() as session:
        tokens = await swarm.client.greedy(session, PROMPT, 2)
        struck = [(1, Fault.CUT), (0, Fault.SILENT), (1, Fault.GARBAGE), (-1, Fault.TRUNCATED)]
        for stage, fault in [*struck, (0, Fault.CUT)]:
            swarm.strike(session, stage, fault)
            tokens.append(await swarm.client.next_token(session, tokens[-1:]))
        tokens += await swarm.client.greedy(session, tokens[-1:], NUM_NEW - len(tokens))

        assert tokens == expected
        assert swarm.num_lost() == 5


@DIALECTS
@FAULTS
async def test_a_replica_may_be_lost_while_it_takes_over(
    tiny_llama: Path, expected: list[int], dialect: str, fault: Fault
) -> None:
    """Then a third one does, from the beginning."""
    splits = ["0:2", "2:4", "2:4", "2:4"]
    async with disturbed(tiny_llama, dialect, splits) as swarm, await swarm.open() as session:
        tokens = await swarm.client.greedy(session, PROMPT, 4)
        used = session.route[1].peer
        others = [s.peer_id for s in swarm.client.servers if s.peer_id not in (used, "server-0")]
        swarm.network.cut(used)
        swarm.network.strike(others[0], fault)
        tokens += await swarm.client.greedy(session, tokens[-1:], NUM_NEW - 4)

        assert tokens == expected


@DIALECTS
@pytest.mark.parametrize("fault", [Fault.CUT, Fault.SILENT])
async def test_a_server_that_joins_later_takes_over(
    tiny_llama: Path, expected: list[int], dialect: str, fault: Fault
) -> None:
    """Without a replica the session waits."""
    async with disturbed(tiny_llama, dialect, ["0:2", "2:4"]) as swarm:
        session = await swarm.open()
        tokens = await swarm.client.greedy(session, PROMPT, 4)
        swarm.strike(session, 1, fault)
        rest = asyncio.create_task(swarm.client.greedy(session, tokens[-1:], NUM_NEW - 4))
        async with joined(tiny_llama, swarm.network, "2:4"):
            tokens += await rest
            await session.close()

        assert tokens == expected
        assert session.route[1].peer == "joined"


@DIALECTS
@FAULTS
async def test_beams_stay_in_order(
    tiny_llama: Path, local_model: LlamaForCausalLM, dialect: str, fault: Fault
) -> None:
    """Rows are sent once more as they were reordered."""
    rows = [[1, 50, 60], [1, 70, 80]]
    orders = [torch.tensor(order) for order in ([1, 0], [0, 0], [1, 0])]
    async with disturbed(tiny_llama, dialect) as swarm, await swarm.open(2) as session:
        await session.step(swarm.embed(*rows))
        for index, order in enumerate(orders):
            if index == 2:
                swarm.strike(session, 1, fault)
            token = 90 + index
            rows = [[*rows[row], token] for row in order.tolist()]
            output = await session.step(swarm.embed([token], [token]), hypo_ids=order)

        hidden = local_model.model(torch.tensor(rows)).last_hidden_state[:, -1]
        logits = swarm.client.parts.logits(output[:, -1])
        assert torch.allclose(logits, local_model.lm_head(hidden), atol=1e-4)


@DIALECTS
@FAULTS
async def test_deep_prompts_come_with_the_replay(
    tiny_llama: Path, dialect: str, fault: Fault
) -> None:
    """Each server that takes over gets those of its blocks."""
    prompts = torch.randn(4, 1, 3, 64, generator=torch.Generator().manual_seed(1))
    outputs: list[Tensor] = []
    async with disturbed(tiny_llama, dialect) as swarm:
        for given, is_struck in ((None, False), (prompts, False), (prompts, True)):
            async with await swarm.open() as session:
                await session.step(swarm.embed(PROMPT), prompts=given)
                if is_struck:
                    swarm.strike(session, 1, fault)
                outputs.append(await session.step(swarm.embed([7])))

    bare, undisturbed, struck = outputs
    assert torch.allclose(struck, undisturbed, atol=1e-4)  # float32, replayed as a whole
    assert not torch.allclose(bare, undisturbed, atol=1e-1)


@DIALECTS
@FAULTS
async def test_a_rollback_is_not_undone(
    tiny_llama: Path, expected: list[int], dialect: str, fault: Fault
) -> None:
    """Tokens that were taken back do not come again with the replay."""
    async with disturbed(tiny_llama, dialect) as swarm, await swarm.open() as session:
        tokens = await swarm.client.greedy(session, PROMPT, 4)
        await session.step(swarm.embed([7, 8, 9]))
        session.roll_back(len(PROMPT) + 3)
        swarm.strike(session, 1, fault)
        tokens += await swarm.client.greedy(session, tokens[-1:], NUM_NEW - 4)

        assert tokens == expected


@DIALECTS
async def test_inputs_too_many_to_keep_are_computed_again(
    tiny_llama: Path, expected: list[int], dialect: str
) -> None:
    """Those of the session itself are few enough: other servers run the first blocks once more."""
    own_bytes = 64 * 4 * (len(PROMPT) + NUM_NEW)
    routing = HASTY.model_copy(update={"max_history_bytes": own_bytes})
    async with (
        disturbed(tiny_llama, dialect, routing=routing) as swarm,
        await swarm.open() as session,
    ):
        tokens = await swarm.client.greedy(session, PROMPT, 5)
        assert session.num_history_spills > 0
        assert session.history_bytes <= own_bytes
        swarm.strike(session, 2, Fault.CUT)
        tokens += await swarm.client.greedy(session, tokens[-1:], NUM_NEW - 5)

        assert tokens == expected
