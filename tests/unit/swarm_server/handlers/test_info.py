"""rpc_info."""

import pytest
import torch

from swarm_protocol.errors import MalformedMessageError
from swarm_protocol.identifiers import BlockRange, PeerId
from swarm_protocol.messages import ExpertInfo, ExpertUID, parse_message
from swarm_protocol.serializer import unpack
from swarm_protocol.server_info import PeerDescription
from swarm_server.errors import NotServedError
from swarm_server.handlers import InfoHandler, ServedModel

SERVED = ServedModel("m", BlockRange(2, 4), hidden_size=8, max_length=9, max_batch_tokens=9)


async def ask(uid: str) -> bytes:
    handler = InfoHandler(SERVED, dtype=torch.bfloat16, version="v", count_slots_left=lambda: 123)
    reply = await handler.answer(ExpertUID(uid=uid).SerializeToString(), PeerId("caller"))
    facts: bytes = parse_message(ExpertInfo, reply).serialized_info
    return facts


async def test_a_block_is_described_as_clients_read_it() -> None:
    """Dtype, hidden size, free memory, and that rolling back works here."""
    assert PeerDescription.parse(await ask("m.3")) == PeerDescription(
        version="v",
        hidden_size=8,
        dtype=torch.bfloat16,
        cache_tokens_left=123,
        can_roll_back=True,
    )


async def test_without_a_uid_there_are_no_descriptors() -> None:
    """As stock servers answer."""
    facts = unpack(await ask(""))

    assert isinstance(facts, dict)
    assert set(facts) == {"version", "dht_client_mode", "cache_tokens_available", "swarmgate"}


@pytest.mark.parametrize("uid", ["m.1", "m.4", "n.2"])
async def test_blocks_of_others_are_refused(uid: str) -> None:
    """An error, not an empty answer."""
    with pytest.raises(NotServedError, match="Remote peer does not serve"):
        await ask(uid)


async def test_what_is_no_uid_is_refused() -> None:
    """A chain is not one block."""
    with pytest.raises(MalformedMessageError):
        await ask("m.2 m.3")
