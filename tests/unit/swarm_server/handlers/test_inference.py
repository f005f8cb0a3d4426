"""Sessions whose caller leaves, at every place where the server may be waiting."""

import asyncio
import gc
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import torch

from swarm_protocol.errors import PeerRefusedError
from swarm_protocol.identifiers import BlockRange, PeerId
from swarm_protocol.memory_node import MemoryNetwork, MemoryNode
from swarm_protocol.messages import ExpertRequest
from swarm_protocol.metadata import InferenceMetadata
from swarm_protocol.node import CallStream
from swarm_protocol.tensor_codec import encode_tensor
from swarm_server.handlers import (
    Admission,
    InferenceHandler,
    Pusher,
    ServedModel,
    SessionTimeouts,
)
from swarm_server.kv import KVBudget
from tests.unit.swarm_server.engine.serving.running_sums import (
    HIDDEN_SIZE,
    RunningSums,
    running_engine,
)


@dataclass
class Bench:
    """A handler on an engine whose span waits to be let through."""

    span: RunningSums
    budget: KVBudget
    admission: Admission
    handler: InferenceHandler
    caller: MemoryNode

    async def send_step(
        self, *, wait_s: float = 0.0, max_length: int = 10, session_id: str | None = None
    ) -> CallStream:
        """Open a session and send its first step."""
        stream = await self.caller.open_stream(self.caller.peer_id, "infer")
        metadata = InferenceMetadata(
            session_id=session_id, max_length=max_length, alloc_timeout_s=wait_s
        )
        await stream.send(_request(metadata))
        return stream

    async def wait_started(self) -> None:
        await asyncio.to_thread(self.span.started.wait)


def _request(metadata: InferenceMetadata, *, num_rows: int = 1) -> bytes:
    tensors = [encode_tensor(torch.zeros(num_rows, 1, HIDDEN_SIZE))]
    request = ExpertRequest(uid="m.0", tensors=tensors, metadata=metadata.to_wire())
    data: bytes = request.SerializeToString()
    return data


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with running_engine() as engine:
        engine.span.go_on.clear()
        budget = KVBudget(num_slots=10, slot_bytes=32)
        admission = Admission(budget, max_sessions=4)
        node = MemoryNetwork().node("one")
        handler = InferenceHandler(
            ServedModel("m", BlockRange(0, 1), HIDDEN_SIZE, max_length=10, max_batch_tokens=10),
            engine.engine,
            admission,
            SessionTimeouts(step_s=10, session_s=10),
            Pusher(node, "m"),
        )
        await node.serve_stream("infer", handler.serve)
        yield Bench(engine.span, budget, admission, handler, node)
        engine.span.go_on.set()
        await node.close()


async def settle() -> None:
    """Let everything that is ready run."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_leaving_between_steps_frees_memory_at_once(bench: Bench) -> None:
    """The handler waits for the next message."""
    bench.span.go_on.set()
    stream = await bench.send_step()
    await stream.receive()
    assert bench.budget.slots_left == 0

    stream.close()
    await settle()

    assert (bench.admission.num_sessions, bench.budget.slots_left) == (0, 10)


async def test_the_caller_may_end_the_stream_behind_its_last_message(bench: Bench) -> None:
    """Petals' clients do, and fail where it is gone; the memory does not wait for that."""
    bench.span.go_on.set()
    stream = await bench.send_step()
    await stream.receive()
    await stream.send(ExpertRequest().SerializeToString())
    ending = asyncio.create_task(stream.receive())
    await settle()

    assert bench.budget.slots_left == 10
    assert not ending.done()

    await stream.finish()
    assert await ending is None


async def test_leaving_during_a_step_frees_memory_when_it_ends(bench: Bench) -> None:
    """Not before: the compute thread still writes there."""
    stream = await bench.send_step()
    await bench.wait_started()

    stream.close()
    await settle()
    assert (bench.admission.num_sessions, bench.budget.slots_left) == (1, 0)
    bench.span.go_on.set()
    await bench.admission.wait_idle()

    assert bench.budget.slots_left == 10


async def test_a_step_that_has_not_begun_is_dropped(bench: Bench) -> None:
    """A caller who leaves the engine's queue holds nothing."""
    await bench.send_step(max_length=5)
    await bench.wait_started()
    queued = await bench.send_step(max_length=5)
    await settle()
    assert bench.budget.slots_left == 0

    queued.close()
    await settle()

    assert (bench.admission.num_sessions, bench.budget.slots_left) == (1, 5)


async def test_leaving_while_waiting_for_memory_holds_nothing(bench: Bench) -> None:
    """Neither a place nor slots."""
    await bench.send_step()
    await bench.wait_started()
    waiting = await bench.send_step(wait_s=100)
    await settle()
    assert bench.admission.num_sessions == 2

    waiting.close()
    await settle()

    assert bench.admission.num_sessions == 1


async def test_ending_all_frees_memory_when_the_running_step_ends(bench: Bench) -> None:
    """The caller learns why, without waiting for the step."""
    stream = await bench.send_step()
    await bench.wait_started()

    bench.admission.start_draining()
    bench.handler.end_all()
    with pytest.raises(PeerRefusedError, match="shutting down"):
        await stream.receive()
    bench.span.go_on.set()
    await bench.admission.wait_idle()

    assert bench.budget.slots_left == 10


async def test_a_fault_of_ours_is_not_told_to_the_caller(bench: Bench) -> None:
    """It gets a plain sentence; the cause goes to our log."""
    bench.span.failure = RuntimeError("a secret of ours")
    bench.span.go_on.set()

    stream = await bench.send_step()
    with pytest.raises(PeerRefusedError, match="the server failed to compute this step") as caught:
        await stream.receive()

    assert "secret" not in str(caught.value)
    assert (bench.admission.num_sessions, bench.budget.slots_left) == (0, 10)


async def test_a_push_that_fails_when_its_server_has_left_is_nobodys_fault(bench: Bench) -> None:
    """It says nothing about the session, and asyncio has nothing to complain of."""
    complaints: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, about: complaints.append(about))
    stream = await bench.send_step(session_id="s")
    await bench.wait_started()
    wrong = _request(InferenceMetadata(session_id="s", step_id="2"), num_rows=2)
    push = asyncio.create_task(bench.handler.push(wrong, PeerId("server before")))
    await settle()

    push.cancel()
    bench.span.go_on.set()

    assert await stream.receive() is not None
    await settle()
    del push  # it remembers what it waited for
    gc.collect()
    assert complaints == []
