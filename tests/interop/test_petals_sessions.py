"""Inference sessions on one server of the unmodified Petals release, by raw frames and our client.

What our own servers do with the same frames is in `tests/integration/swarm_server`.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from swarm_client.connection import RemoteModel, SwarmConnection
from swarm_client.models import read_facts
from swarm_protocol.argument_packing import structure_of
from swarm_protocol.checkpoint import Checkpoint
from swarm_protocol.errors import PeerRefusedError
from swarm_protocol.hivemind import HivemindNode, NodeSettings
from swarm_protocol.identifiers import BlockRange, PeerId
from swarm_protocol.messages import ExpertInfo, ExpertUID, parse_message
from swarm_protocol.methods import RPC_INFO
from swarm_protocol.server_info import PeerDescription
from tests.harness import petals
from tests.harness.local_layers import LocalLayers
from tests.harness.tiny_models import save_tiny_llama
from tests.integration.swarm_server.raw_session import RawSession, hidden_states

pytestmark = [
    pytest.mark.skipif(not petals.is_installed(), reason=petals.REASON_ABSENT),
    pytest.mark.timeout(120),
]

PREFIX = "tiny"
ALL = BlockRange(0, 4)
TASK_LIMIT = 2048
TOLERANCE = 1e-3  # two implementations of the same float32 layers


@dataclass(frozen=True, slots=True)
class PetalsServer:
    """A server of the release, and somebody who calls it."""

    peer_id: PeerId
    dht_prefix: str
    blocks: BlockRange
    caller: HivemindNode
    layers: LocalLayers
    client: RemoteModel

    @asynccontextmanager
    async def session(self, max_length: int = 32) -> AsyncIterator[RawSession]:
        session = await RawSession.start(self.caller, self, max_length=max_length)
        yield session
        session.stream.close()

    async def describe(self) -> PeerDescription:
        request = ExpertUID(uid=f"{self.dht_prefix}.0").SerializeToString()
        reply = await self.caller.call(self.peer_id, RPC_INFO, request)
        return PeerDescription.parse(parse_message(ExpertInfo, reply).serialized_info)

    @torch.inference_mode()
    def expected(self, hidden: Tensor, prompts: Tensor | None = None) -> Tensor:
        return self.layers(hidden, prompts)


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PetalsServer]:
    """All four blocks; a session may be far longer than a step."""
    model = save_tiny_llama(tmp_path_factory.mktemp("sessions") / "tiny", max_positions=8192)
    petals.write_old_config(model)
    limits = (
        *("--max_batch_size", str(TASK_LIMIT), "--inference_max_length", "8192"),
        *("--attn_cache_tokens", "16384"),
    )
    async with AsyncExitStack() as cleanup:
        node = await HivemindNode.start(NodeSettings())
        cleanup.push_async_callback(node.close)
        peer = await cleanup.enter_async_context(
            petals.running(
                *("server", str(model), str(ALL), "--prefix", PREFIX, "--handlers", "1"),
                *("--initial_peers", *node.maddrs, "--extra", *limits),
            )
        )
        connection = SwarmConnection(node)
        cleanup.push_async_callback(connection.close)
        facts = read_facts(Checkpoint.open(str(model)), dht_prefix=PREFIX)
        yield PetalsServer(
            *(PeerId(peer.peer_id), PREFIX, ALL, node),
            LocalLayers(model, ALL),
            await connection.watch(facts),
        )


def assert_close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, atol=TOLERANCE, rtol=0)


async def test_petals_server_takes_no_step_of_more_tokens_than_its_task_limit(
    server: PetalsServer,
) -> None:
    """So a client must cut a longer prefill."""
    async with server.session(max_length=TASK_LIMIT + 1) as session:
        await session.send(hidden_states(1, TASK_LIMIT + 1))

        with pytest.raises(PeerRefusedError, match="max_batch_size"):
            await session.receive()


async def test_our_client_prefills_5000_tokens_on_a_petals_server(server: PetalsServer) -> None:
    """In steps that the server takes; the token after them finds all of them."""
    hidden = hidden_states(1, 5001)
    async with await server.client.open_session(max_length=5001) as session:
        prefix = await session.step(hidden[:, :5000])
        last = await session.step(hidden[:, 5000:])

    assert_close(torch.cat([prefix, last], 1), server.expected(hidden))


async def test_deep_prompts_of_our_client_equal_local_addition_on_a_petals_server(
    server: PetalsServer,
) -> None:
    """Before each block, to the tokens of the first step only."""
    hidden = hidden_states(2, 6)
    prompts = torch.randn(len(ALL), 2, 3, 64, generator=torch.Generator().manual_seed(5))
    async with await server.client.open_session(max_length=6, batch_size=2) as session:
        first = await session.step(hidden[:, :4], prompts=prompts)
        others = await session.step(hidden[:, 4:])

    assert_close(torch.cat([first, others], 1), server.expected(hidden, prompts))


async def test_steps_of_5_1_and_1_tokens_equal_one_of_7_on_a_petals_server(
    server: PetalsServer,
) -> None:
    """And both equal transformers."""
    hidden = hidden_states(2, 7)
    async with server.session() as whole, server.session() as cut:
        expected = await whole.step(hidden)
        outputs = [await cut.step(chunk) for chunk in torch.split(hidden, [5, 1, 1], 1)]

    assert_close(torch.cat(outputs, 1), expected)
    assert_close(torch.cat(outputs, 1), server.expected(hidden))


async def test_both_argument_forms_mean_the_same_on_a_petals_server(server: PetalsServer) -> None:
    """Positional tensors, a structure, and a structure with nil for prompts."""
    hidden, order = hidden_states(2, 3), torch.tensor([1, 0])
    replies = []
    structures: list[object] = [None, structure_of(3), ((b"__T0", None, b"__T2"), {})]
    for structure in structures:
        async with server.session() as session:
            session.opening = replace(session.opening, args_structure=structure)
            await session.step(hidden)
            replies.append(await session.step(hidden[:, :1], hypo_ids=order))

    assert_close(replies[0], replies[1])
    assert_close(replies[0], replies[2])


async def test_a_repeated_step_id_gets_no_second_reply_on_a_petals_server(
    server: PetalsServer,
) -> None:
    """The next reply is that of the next step."""
    hidden = hidden_states(1, 3)
    async with server.session() as session:
        await session.step(hidden[:, :1], step_id="same")

        await session.send(hidden[:, :1], step_id="same")
        reply = await session.step(hidden[:, 1:])

    assert_close(reply, server.expected(hidden)[:, 1:])


async def test_the_probe_for_rollback_unmasks_a_petals_server(server: PetalsServer) -> None:
    """It ignores the key and appends, which a session of one token refuses; nor has it said more.

    Our own servers answer the same frames; see `test_a_probe_for_rollback_is_answered`.
    """
    token = hidden_states(1, 1)
    async with server.session(max_length=1) as session:
        await session.step(token)

        await session.send(token, start_from_position=0)

        with pytest.raises(PeerRefusedError, match="Maximum length exceeded"):
            await session.receive()
    assert not (await server.describe()).can_roll_back


async def test_our_client_reads_the_memory_of_a_petals_server(server: PetalsServer) -> None:
    """A step without tokens reserves it: rows times length times blocks, until the end."""
    before = (await server.describe()).cache_tokens_left
    async with server.session(max_length=100) as session:
        assert (await session.step(torch.empty(2, 0, 64))).shape == (2, 0, 64)

        assert (await server.describe()).cache_tokens_left == before - 100 * len(ALL) * 2
        await session.end()
    assert (await server.describe()).cache_tokens_left == before
