"""A server of our dialect on an engine that adds up, and a client that writes its own frames.

A token's output is the sum of what its session has been given up to it.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from swarm_protocol.dialect import (
    FailedFrame,
    Failure,
    Opened,
    OpenedFrame,
    Opening,
    OutputEntry,
    OutputsFrame,
    StepEntry,
    StepExtras,
    StepsFrame,
    decode_reply,
    encode_open,
    encode_steps,
    split_rows,
)
from swarm_protocol.dialect.methods import HELLO, STEPS
from swarm_protocol.memory_node import MemoryNetwork, MemoryNode
from swarm_protocol.node import CallStream
from swarm_server.handlers import Admission, ServedModel
from swarm_server.handlers.dialect import DialectHandler, HelloHandler, LaneLimits, PushLanes
from swarm_server.kv import KVBudget
from tests.unit.swarm_server.engine.serving.running_sums import (
    BLOCKS,
    HIDDEN_SIZE,
    PAGE_SIZE,
    Bench,
    running_engine,
    tokens,
)

MODEL = ServedModel("m", BLOCKS, HIDDEN_SIZE, max_length=100, max_batch_tokens=16)
LIMITS = LaneLimits(
    max_frame_tokens=16,
    max_inflight_tokens=24,
    step_s=10.0,
    session_s=10.0,
    max_total_tokens=96,
)
NUM_PAGES = 64


def opening(session_id: int, **changes: object) -> Opening:
    """Return an opening of one row and 20 tokens; its token is its number."""
    token = session_id.to_bytes(16, "big")
    wanted = Opening(session_id, BLOCKS, max_length=20, num_rows=1, token=token)
    return replace(wanted, **changes)  # type: ignore[arg-type]


@dataclass(eq=False)
class RawLane:
    """One stream, frame by frame."""

    stream: CallStream
    outputs: deque[tuple[OutputEntry, Tensor]] = field(default_factory=deque)
    opened: deque[Opened] = field(default_factory=deque)
    failures: deque[Failure] = field(default_factory=deque)
    num_frames: int = 0

    async def open(self, *openings: Opening) -> None:
        """Ask for sessions."""
        await self.stream.send(encode_open(openings))

    async def send(
        self,
        entries: Sequence[StepEntry],
        hidden: Tensor,
        extras: dict[int, StepExtras] | None = None,
    ) -> None:
        """Send steps in one frame; hidden states [num_tokens, 2]."""
        await self.stream.send(encode_steps(StepsFrame(entries, hidden, extras or {})))

    async def step(
        self, session_id: int, number: int, position: int, *values: float, flags: int = 0
    ) -> None:
        """Send one step of one row."""
        entry = StepEntry(session_id, number, position, 1, len(values), flags)
        await self.send([entry], tokens(*values)[0])

    async def receive(self) -> None:
        """Take in the next frame."""
        data = await self.stream.receive()
        assert data is not None, "the server has ended the stream"
        self.num_frames += 1
        match decode_reply(data):
            case OutputsFrame(entries, hidden):
                self.outputs.extend(zip(entries, split_rows(entries, hidden), strict=True))
            case OpenedFrame(opened):
                self.opened.extend(opened)
            case FailedFrame(failures):
                self.failures.extend(failures)

    async def next_opened(self) -> Opened:
        while not self.opened:
            await self.receive()
        return self.opened.popleft()

    async def next_output(self) -> tuple[OutputEntry, list[float]]:
        """Return the next outputs; the values of all tokens, row by row."""
        while not self.outputs:
            await self.receive()
        entry, hidden = self.outputs.popleft()
        return entry, hidden[:, :, 0].flatten().tolist()

    async def next_failure(self) -> Failure:
        while not self.failures:
            await self.receive()
        return self.failures.popleft()

    async def all_has_arrived(self) -> None:
        """Wait until the server has read what was sent so far."""
        await self.step(99, 0, 0, 1.0)
        assert (await self.next_failure()).session_id == 99, "there is such a session"


@dataclass(eq=False)
class LaneBench:
    """One server and what it holds."""

    node: MemoryNode
    engine: Bench
    budget: KVBudget
    admission: Admission
    handler: DialectHandler
    caller: MemoryNode

    async def lane(self) -> RawLane:
        """Open a stream."""
        return RawLane(await self.caller.open_stream(self.node.peer_id, STEPS))

    async def assert_all_is_free(self) -> None:
        """No session is left, all promises and pages are back."""
        async with asyncio.timeout(5):
            await self.admission.wait_idle()
        self.budget.check_integrity()
        assert self.budget.slots_left == self.budget.num_slots
        self.engine.engine.check_integrity()
        self.handler.check_integrity()
        assert self.engine.memory.num_available == NUM_PAGES


@asynccontextmanager
async def lane_server(
    network: MemoryNetwork | None = None,
    name: str = "server",
    *,
    limits: LaneLimits = LIMITS,
    max_sessions: int = 8,
    model: ServedModel = MODEL,
) -> AsyncIterator[LaneBench]:
    """Yield a server."""
    network = network or MemoryNetwork()
    node, caller = network.node(name), network.node(f"caller of {name}")
    async with running_engine(NUM_PAGES) as engine:
        budget = KVBudget(num_slots=200, slot_bytes=8)
        admission = Admission(budget, max_sessions=max_sessions)
        pushes = PushLanes(node, model.dht_prefix)
        handler = DialectHandler(model, engine.engine, admission, limits, pushes)
        hello = HelloHandler(model, limits, dtype=torch.float32, page_size=PAGE_SIZE)
        await node.serve_stream(STEPS, handler.serve)
        await node.serve_unary(HELLO, hello.answer)
        yield LaneBench(node, engine, budget, admission, handler, caller)
        engine.span.go_on.set()
        handler.end_all()
        await pushes.close()
        await node.close()
