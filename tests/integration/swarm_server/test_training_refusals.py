"""What is refused of forward and backward requests, and that nothing else suffers by it."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from swarm_protocol.errors import PeerRefusedError
from swarm_protocol.messages import ExpertRequest, TensorMessage
from swarm_protocol.metadata import TrainingMetadata
from swarm_protocol.methods import (
    RPC_BACKWARD,
    RPC_BACKWARD_STREAM,
    RPC_FORWARD,
    RPC_FORWARD_STREAM,
)
from swarm_protocol.tensor_codec import encode_tensor
from tests.harness.server_swarm import server_swarm
from tests.harness.tiny_models import save_tiny_llama
from tests.integration.swarm_server.raw_session import RawSession, hidden_states
from tests.integration.swarm_server.raw_training import call, run_forward
from tests.integration.swarm_server.tiny_swarm import Swarm

HIDDEN = torch.zeros(2, 3, 64)


async def assert_refused(
    swarm: Swarm,
    method: str,
    tensors: list[Tensor],
    text: str,
    metadata: TrainingMetadata | None = None,
) -> None:
    """A request is refused with this text; a session opened before goes on."""
    session = await RawSession.start(swarm.caller, swarm.servers[0])
    await session.step(hidden_states(1, 2))

    with pytest.raises(PeerRefusedError, match=text):
        await call(
            *(swarm.caller, swarm.servers[0], method, tensors),
            metadata=metadata or TrainingMetadata(),
        )

    await session.step(hidden_states(1, 1))
    await session.end()
    swarm.assert_memory_is_back()


@pytest.mark.parametrize("method", [RPC_FORWARD, RPC_FORWARD_STREAM])
@pytest.mark.parametrize(
    ("tensors", "text"),
    [
        ([torch.zeros(3, 64)], "hidden states must have shape"),
        ([torch.zeros(1, 3, 32)], "hidden states must have shape"),
        ([torch.zeros(0, 3, 64)], "hidden states must have shape"),
        ([torch.zeros(1, 0, 64)], "at least one token"),
        ([torch.zeros(1, 3, 64, dtype=torch.int64)], "floating-point"),
        ([torch.zeros(1, 2049, 64)], "Task size greater than max_batch_size"),
        ([HIDDEN, torch.zeros(3, 1, 1, 64)], "Received 3 prompts for 2 backends"),
        ([HIDDEN, torch.zeros(2, 1, 4, 64)], "prompts must have shape"),
        ([HIDDEN, torch.zeros(2, 1, 1, 64, dtype=torch.int64)], "prompts must be floating"),
        ([HIDDEN] * 9, "at most 8 tensors"),
    ],
)
async def test_a_forward_request_that_does_not_fit_is_refused(
    swarm: Swarm, method: str, tensors: list[Tensor], text: str
) -> None:
    """Shape, dtype and number of every tensor are checked."""
    await assert_refused(swarm, method, tensors, text)


@pytest.mark.parametrize("method", [RPC_BACKWARD, RPC_BACKWARD_STREAM])
@pytest.mark.parametrize(
    ("tensors", "text"),
    [
        ([HIDDEN], "no gradients of outputs"),
        ([HIDDEN, HIDDEN[:1]], "gradients of outputs must have shape"),
        ([HIDDEN, HIDDEN.long()], "gradients of outputs must be floating-point"),
    ],
)
async def test_a_backward_request_that_does_not_fit_is_refused(
    swarm: Swarm, method: str, tensors: list[Tensor], text: str
) -> None:
    """Gradients are shaped as the hidden states are."""
    await assert_refused(swarm, method, tensors, text)


@pytest.mark.parametrize(
    ("metadata", "text"),
    [
        (TrainingMetadata(output_compression=(2, 2)), "must have 1 entries, got 2"),
        (TrainingMetadata(output_compression=()), "must have 1 entries, got 0"),
        (TrainingMetadata(output_compression=(3,)), "QUANTILE_8BIT"),
        (TrainingMetadata(output_compression=(77,)), "77"),
        (TrainingMetadata(active_adapter="nobody"), "adapter nobody not found"),
        (TrainingMetadata(args_structure=((b"__T7",), {})), "args_structure"),
        (TrainingMetadata(args_structure=((None,), {})), "no hidden states"),
    ],
)
async def test_metadata_that_asks_for_what_is_not_there_is_refused(
    swarm: Swarm, metadata: TrainingMetadata, text: str
) -> None:
    """A codec for each output and no more, known adapters, tensors that were sent."""
    await assert_refused(swarm, RPC_FORWARD, [HIDDEN], text, metadata)


async def test_a_reply_too_large_for_one_message_is_refused(tmp_path: Path) -> None:
    """Stock callers would wait for it for ever. Half-precision inputs have replies twice as big."""
    model = save_tiny_llama(tmp_path, num_blocks=1, hidden_size=512)
    hidden = torch.zeros(4, 512, 512, dtype=torch.float16)
    async with server_swarm(model, ["0:1"]) as (network, (server,)):
        caller = network.node("caller")

        with pytest.raises(PeerRefusedError, match="use the _stream form"):
            await run_forward(caller, server, hidden)
        output = await run_forward(caller, server, hidden, streams=True)
        same = await run_forward(caller, server, hidden.double(), streams=True)

    assert output.nbytes == 4 * 1024 * 1024
    assert torch.equal(same, output)  # 8 MiB, in two parts


async def send(swarm: Swarm, *requests: ExpertRequest) -> None:
    """Send messages of one `rpc_forward_stream` and read the first reply."""
    stream = await swarm.caller.open_stream(swarm.servers[0].peer_id, RPC_FORWARD_STREAM)
    for request in requests:
        await stream.send(request.SerializeToString())
    await stream.finish()
    await stream.receive()


async def test_streams_that_are_none_are_refused(swarm: Swarm) -> None:
    """No message, other bytes, another chain in the middle, a part without a beginning."""
    part, later = encode_tensor(HIDDEN), TensorMessage(buffer=b"x")
    uid = f"{swarm.servers[0].dht_prefix}.0"
    request = ExpertRequest(uid=uid, tensors=[part])

    with pytest.raises(PeerRefusedError, match="no message"):
        await send(swarm)
    with pytest.raises(PeerRefusedError, match="does not serve"):
        await send(swarm, request, ExpertRequest(uid=f"{uid}1", tensors=[later]))
    with pytest.raises(PeerRefusedError, match="must name its dtype"):
        await send(swarm, ExpertRequest(uid=uid, tensors=[later]))
    with pytest.raises(PeerRefusedError, match="does not serve"):
        await send(swarm, ExpertRequest(uid="another.0", tensors=[part]))
    with pytest.raises(PeerRefusedError, match="the metadata is not a dictionary"):
        await send(swarm, ExpertRequest(uid=uid, tensors=[part], metadata=b"\x07"))


async def test_a_draining_server_takes_no_new_requests(swarm: Swarm) -> None:
    """Those that run may end."""
    await swarm.servers[0].drain()

    with pytest.raises(PeerRefusedError, match="shutting down"):
        await run_forward(swarm.caller, swarm.servers[0], HIDDEN)
