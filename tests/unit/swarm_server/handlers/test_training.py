"""Training requests on gated blocks: who leaves, who waits, and what a fault of ours tells."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import torch

from swarm_protocol.errors import PeerRefusedError
from swarm_protocol.identifiers import BlockRange
from swarm_protocol.memory_node import MemoryNetwork, MemoryNode
from swarm_protocol.messages import ExpertRequest
from swarm_protocol.node import CallStream
from swarm_protocol.tensor_codec import encode_tensor
from swarm_server.engine import ComputeThread, Span
from swarm_server.engine.decoder_block import BlockShape
from swarm_server.handlers import ServedModel, TrainingAdmission, TrainingHandler
from tests.unit.swarm_server.handlers.gated_block import GatedBlock


@dataclass
class Bench:
    """A handler on two gated blocks."""

    blocks: list[GatedBlock]
    compute: ComputeThread
    admission: TrainingAdmission
    caller: MemoryNode

    async def send(self) -> CallStream:
        """Send a forward request; its reply is not awaited."""
        stream = await self.caller.open_stream(self.caller.peer_id, "forward")
        request = ExpertRequest(uid="m.0 m.1", tensors=[encode_tensor(torch.zeros(1, 1, 4))])
        await stream.send(request.SerializeToString())
        await stream.finish()
        return stream


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    blocks = [GatedBlock(added=1), GatedBlock(added=1)]
    shape = BlockShape(4, 1, 4)
    span = Span(BlockRange(0, 2), blocks, shape, dtype=torch.float32)
    compute, admission = ComputeThread(), TrainingAdmission(max_running=2, timeout_s=10)
    served = ServedModel("m", BlockRange(0, 2), hidden_size=4, max_length=10, max_batch_tokens=10)
    node = MemoryNetwork().node("one")
    handler = TrainingHandler(served, span, compute, admission)
    await node.serve_stream("forward", handler.serve_forward)
    yield Bench(blocks, compute, admission, node)
    for block in blocks:
        block.go_on.set()
    await node.close()
    await compute.close()


async def test_who_leaves_is_computed_no_further(bench: Bench) -> None:
    """The block that runs is the last one."""
    first, second = bench.blocks
    stream = await bench.send()
    await asyncio.to_thread(first.started.wait)

    stream.close()
    await bench.admission.wait_idle()
    first.go_on.set()
    await bench.compute.run(lambda: None)  # after the request, which has ended then

    assert not second.started.is_set()


async def test_inference_runs_between_the_blocks_of_a_training_request(bench: Bench) -> None:
    """A step need not wait for the whole of it."""
    first, second = bench.blocks
    await bench.send()
    await asyncio.to_thread(first.started.wait)

    step = bench.compute.submit(second.started.is_set)
    first.go_on.set()

    assert await asyncio.wrap_future(step) is False  # it ran before the second block


async def test_a_fault_of_ours_keeps_its_text(bench: Bench) -> None:
    """The caller learns that the step failed, and nothing of why."""
    bench.blocks[0].fails = True
    bench.blocks[0].go_on.set()
    stream = await bench.send()

    with pytest.raises(PeerRefusedError, match="failed to compute") as refused:
        await stream.receive()

    assert "secret" not in str(refused.value)
    await bench.admission.wait_idle()


async def test_closing_ends_a_running_request_with_a_reason(bench: Bench) -> None:
    """As it ends sessions."""
    stream = await bench.send()
    await asyncio.to_thread(bench.blocks[0].started.wait)

    bench.admission.end_all()

    with pytest.raises(PeerRefusedError, match="shutting down"):
        await stream.receive()
