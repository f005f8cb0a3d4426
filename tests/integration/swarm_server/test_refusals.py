"""What a peer may send wrongly: refused, memory back, neighbours undisturbed."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from swarm_protocol.errors import PeerRefusedError
from swarm_protocol.messages import ExpertRequest, TensorMessage
from swarm_protocol.metadata import InferenceMetadata
from swarm_protocol.methods import RPC_INFERENCE
from swarm_protocol.serializer import pack
from swarm_protocol.tensor_codec import encode_tensor
from swarm_server.settings import ServerSettings
from tests.harness.server_swarm import server_swarm
from tests.integration.swarm_server.raw_session import RawSession, hidden_states, make_frame
from tests.integration.swarm_server.tiny_swarm import Swarm

UID = "tiny-llama.0 tiny-llama.1"
GOOD = hidden_states(1, 1)
OPENING = InferenceMetadata(max_length=8)


def make_first_frame(
    tensor: Tensor = GOOD, uid: str = UID, metadata: InferenceMetadata = OPENING
) -> bytes:
    return make_frame(uid, [tensor], metadata)


def make_raw_frame(tensor: TensorMessage, metadata: object = None) -> bytes:
    packed = OPENING.to_wire() if metadata is None else pack(metadata)
    frame: bytes = ExpertRequest(uid=UID, tensors=[tensor], metadata=packed).SerializeToString()
    return frame


FIRST_FRAMES = {
    "noise": (b"\xff" * 50, "expected a ExpertRequest"),
    "no max_length": (make_first_frame(metadata=InferenceMetadata()), "int max_length, got None"),
    "negative max_length": (
        make_first_frame(metadata=replace(OPENING, max_length=-5)),
        "int max_length, got -5",
    ),
    "huge max_length": (
        make_first_frame(metadata=replace(OPENING, max_length=10**30 // 10**12)),
        "Cannot allocate KV cache",
    ),
    "text max_length": (make_raw_frame(encode_tensor(GOOD), {"max_length": "8"}), "int max_length"),
    "list metadata": (make_raw_frame(encode_tensor(GOOD), [1]), "not a dictionary"),
    "infinite wait": (
        make_raw_frame(encode_tensor(GOOD), {"max_length": 8, "alloc_timeout": float("inf")}),
        "alloc_timeout must be a number",
    ),
    "too much memory": (
        make_first_frame(hidden_states(3, 1), metadata=replace(OPENING, max_length=8000)),
        "max cache size",
    ),
    "foreign blocks": (
        make_first_frame(uid="tiny-llama.1 tiny-llama.2"),
        "Remote peer does not serve",
    ),
    "foreign model": (make_first_frame(uid="other.0"), "Remote peer does not serve"),
    "broken chain": (make_first_frame(uid="tiny-llama.0 tiny-llama.0"), "follow each other"),
    "endless chain": (make_first_frame(uid=" ".join(["a.0"] * 2000)), "at most 1024"),
    "adapter": (make_first_frame(metadata=replace(OPENING, active_adapter="x")), "adapter x"),
    "two dimensions": (make_first_frame(torch.zeros(1, 64)), "hidden states must have shape"),
    "hidden size": (make_first_frame(torch.zeros(1, 1, 63)), "hidden states must have shape"),
    "no rows": (make_first_frame(torch.zeros(0, 1, 64)), "hidden states must have shape"),
    "integers": (
        make_first_frame(torch.zeros(1, 1, 64, dtype=torch.int64)),
        "hidden states must be floating-point",
    ),
    "task size": (make_first_frame(torch.zeros(1, 2049, 64)), "Task size greater than"),
    "many rows": (make_first_frame(torch.zeros(2049, 0, 64)), "Task size greater than"),
    "longer than reserved": (make_first_frame(hidden_states(1, 9)), "Maximum length exceeded"),
    "rolled back at once": (
        make_first_frame(metadata=replace(OPENING, start_from_position=1)),
        "start_from_position",
    ),
    "false structure": (
        make_first_frame(metadata=replace(OPENING, args_structure=((b"__T5",), {}))),
        "args_structure",
    ),
    "short buffer": (
        make_raw_frame(TensorMessage(buffer=b"1234", size=[1, 1, 64], dtype="float32")),
        "expected 256 bytes",
    ),
    "huge size": (
        make_raw_frame(TensorMessage(buffer=b"", size=[1 << 31, 1 << 31, 64], dtype="float32")),
        "over the limit",
    ),
    "unknown dtype": (
        make_raw_frame(TensorMessage(buffer=b"", size=[0], dtype="complex64")),
        "unknown tensor dtype",
    ),
    "8-bit codec": (
        make_raw_frame(TensorMessage(buffer=b"", size=[0], dtype="float32", compression=5)),
        "BLOCKWISE_8BIT is not supported",
    ),
}


@pytest.mark.parametrize("name", FIRST_FRAMES)
async def test_a_wrong_first_message_is_refused_while_a_neighbour_goes_on(
    swarm: Swarm, name: str
) -> None:
    """With an error that says what is wrong; the neighbour's outputs stay the same."""
    frame, message = FIRST_FRAMES[name]
    server, hidden = swarm.servers[0], hidden_states(1, 4)
    neighbour = await RawSession.start(swarm.caller, server)
    before = await neighbour.step(hidden)

    stream = await swarm.caller.open_stream(server.peer_id, RPC_INFERENCE)
    await stream.send(frame)
    with pytest.raises(PeerRefusedError, match=message):
        await stream.receive()

    assert server.num_sessions == 1
    assert torch.equal(await neighbour.step(hidden, start_from_position=0), before)
    await neighbour.end()
    swarm.assert_memory_is_back()


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"hidden": hidden_states(1, 1)}, "must have 2 rows"),
        ({"hidden": hidden_states(2, 5)}, "prefix 4 \\+ current 5 exceeds .* maximum 8"),
        ({"start_from_position": 5}, r"must be in 0\.\.4, got 5"),
        ({"start_from_position": -1}, r"must be in 0\.\.4, got -1"),
        ({"hypo_ids": torch.tensor([0, 2])}, r"hypo ids must be in 0\.\.1"),
        ({"hypo_ids": torch.tensor([0.0, 1.0])}, "hypo ids must be int64"),
        ({"hypo_ids": torch.tensor([0])}, "hypo ids must have shape"),
        ({"prompts": torch.zeros(3, 1, 1, 64)}, "Received 3 prompts for 2 backends"),
        ({"prompts": torch.zeros(2, 1, 2, 64)}, "prompts must have shape"),
    ],
)
async def test_a_wrong_later_step_ends_the_session(
    swarm: Swarm, step: dict[str, object], message: str
) -> None:
    """The memory of the session is back at once."""
    session = await RawSession.start(swarm.caller, swarm.servers[0], max_length=8)
    await session.step(hidden_states(2, 4))

    await session.send(**{"hidden": hidden_states(2, 1), **step})  # type: ignore[arg-type]

    with pytest.raises(PeerRefusedError, match=message):
        await session.receive()
    swarm.assert_memory_is_back()


async def test_a_later_step_for_other_blocks_ends_the_session(swarm: Swarm) -> None:
    """The chain is fixed by the first message."""
    session = await RawSession.start(swarm.caller, swarm.servers[0])
    await session.step(GOOD)
    session.uid = "tiny-llama.0"

    await session.send(GOOD)

    with pytest.raises(PeerRefusedError, match="does not serve"):
        await session.receive()
    swarm.assert_memory_is_back()


async def test_a_message_larger_than_any_step_is_refused_unread(tiny_llama: Path) -> None:
    """Whatever is in it: the largest step of this server has 4 tokens and prompts for each."""
    settings = ServerSettings(model="-", dtype="float32", threads=1, max_batch_tokens=4)
    async with server_swarm(tiny_llama, ["0:2"], settings) as (network, (server,)):
        stream = await network.node("caller").open_stream(server.peer_id, RPC_INFERENCE)

        await stream.send(bytes(200_000))

        with pytest.raises(PeerRefusedError, match="at most 137216 bytes, got 200000"):
            await stream.receive()


async def test_a_session_id_in_use_is_refused(swarm: Swarm) -> None:
    """The one who has it goes on."""
    first = await RawSession.start(swarm.caller, swarm.servers[0])
    await first.step(GOOD)
    second = await RawSession.start(swarm.caller, swarm.servers[0])
    second.opening = first.opening

    await second.send(GOOD)

    with pytest.raises(PeerRefusedError, match="is not unique"):
        await second.receive()
    await first.step(GOOD)
    await first.end()
    swarm.assert_memory_is_back()


async def test_a_full_server_refuses_in_petals_words(swarm: Swarm) -> None:
    """At once, unless the caller wants to wait; then it gets what others give back."""
    server = swarm.servers[0]
    holder = await RawSession.start(swarm.caller, server, max_length=8192)
    await holder.step(torch.empty(2, 0, 64))
    refused = await RawSession.start(swarm.caller, server, max_length=1)
    patient = await RawSession.start(swarm.caller, server, max_length=1)
    patient.opening = replace(patient.opening, alloc_timeout_s=10.0)

    await refused.send(GOOD)
    with pytest.raises(PeerRefusedError, match=r"allocate \d+ bytes immediately: out of memory"):
        await refused.receive()
    await patient.send(GOOD)
    await holder.end()

    assert (await patient.receive()).shape == (1, 1, 64)
    await patient.end()
    swarm.assert_memory_is_back()


async def test_nothing_at_all_is_a_session_that_ends(swarm: Swarm) -> None:
    """An empty first message, and a stream that ends without one."""
    for frames in ([b""], []):
        stream = await swarm.caller.open_stream(swarm.servers[0].peer_id, RPC_INFERENCE)
        for frame in frames:
            await stream.send(frame)
        await stream.finish()
        assert await stream.receive() is None
    swarm.assert_memory_is_back()
