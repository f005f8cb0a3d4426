"""What does a server spend on a decode step beside computing its blocks, per row and per batch?

A real engine, its pages and compute thread behind the real handler of our dialect, over a network
in memory. The span computes nothing: it numbers its rows as the GPU's does and returns its input,
so this measures everything BUT the span. All sessions step in one frame, each as soon as the
frame with all outputs is back; the client's part is next to nothing: its frames are patched, and
of replies it reads the header. With `pushing`, outputs go on to a next server as well, which
drops them. Hidden states have the size of Llama 8B's.
"""

import argparse
import cProfile
import pstats
import statistics
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from time import perf_counter, process_time
from typing import Final

import numpy as np
import torch
import uvloop
from torch import Tensor

from benchmarks.report import print_report
from swarm_protocol.dialect import (
    TOKEN_BYTES,
    WANTS_PUSH,
    Opening,
    PushTarget,
    StepEntry,
    StepsFrame,
    encode_open,
    encode_steps,
)
from swarm_protocol.dialect.frame import FrameKind, parse_frame
from swarm_protocol.dialect.methods import HELLO, STEPS
from swarm_protocol.identifiers import BlockRange, PeerId
from swarm_protocol.memory_node import MemoryNetwork
from swarm_protocol.node import CallStream, ServedStream
from swarm_server.engine import ComputeThread
from swarm_server.engine.batch import Begun, RaggedBatch
from swarm_server.engine.cuda.step_numbers import number_step
from swarm_server.engine.serving import Engine, EngineLimits, PagedSpan
from swarm_server.handlers import Admission, ServedModel
from swarm_server.handlers.dialect import DialectHandler, HelloHandler, LaneLimits, PushLanes
from swarm_server.kv import KVBudget, KVLayout, KVMemory, PageCopy
from swarm_server.scheduler import BatchLimits

BLOCKS: Final = BlockRange(0, 16)
HIDDEN_SIZE: Final = 4096
PAGE_SIZE: Final = 64
MAX_LENGTH: Final = 4096
TILE_ROWS: Final = 16
WARM_UP_STEPS: Final = 50
MODEL: Final = ServedModel("bench", BLOCKS, HIDDEN_SIZE, MAX_LENGTH, max_batch_tokens=2048)
BATCH_LIMITS: Final = BatchLimits(max_batch_tokens=2048, chunk_tokens=512, max_rows=256)
NUM_PAGES: Final = 16384
SINK: Final = PeerId("sink")
HEADER_BYTES: Final = 8
STEP_BYTES: Final = 24
"""Of a frame, and of an entry of a STEPS frame; see docs/reference/protocol.md."""


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--steps", type=int, default=300, help="of each session")
    parser.add_argument("--profile", action="store_true", help="of the event loop, most first")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = {
        f"{number}_sessions{'_pushing' if is_pushing else ''}": uvloop.run(
            measure(number, arguments.steps, is_pushing=is_pushing, profiled=arguments.profile)
        )
        for number in arguments.sessions
        for is_pushing in (False, True)
    }
    print_report("engine_overhead", results)


async def measure(
    num_sessions: int, num_steps: int, *, is_pushing: bool, profiled: bool
) -> dict[str, float]:
    """Return times of a batch and its rows: medians, the fastest quarter, the processor's."""
    async with server_without_blocks() as stream:
        client = Client(stream, num_sessions, is_pushing=is_pushing)
        await client.open()
        for _ in range(WARM_UP_STEPS):  # warms up
            await client.step()
        profile = cProfile.Profile()
        if profiled:
            profile.enable()
        took_s, began_s = list[float](), process_time()
        for _ in range(num_steps):
            started_at = perf_counter()
            await client.step()
            took_s.append(perf_counter() - started_at)
        processor_s = process_time() - began_s
        profile.disable()
    if profiled:
        pstats.Stats(profile).sort_stats("tottime").print_stats(45)
    batch_us = 1e6 * statistics.median(took_s)
    return {
        "us_per_batch": round(batch_us, 1),
        "us_per_row": round(batch_us / num_sessions, 2),
        "fastest_us_per_row": round(1e6 * statistics.quantiles(took_s)[0] / num_sessions, 2),
        "processor_us_per_row": round(1e6 * processor_s / num_steps / num_sessions, 2),
    }


class Client:
    """Steps all its sessions at once, one token each."""

    def __init__(self, stream: CallStream, num_sessions: int, *, is_pushing: bool) -> None:
        flags = WANTS_PUSH if is_pushing else 0
        entries = [StepEntry(number, 0, 0, 1, 1, flags) for number in range(num_sessions)]
        hidden = torch.randn(num_sessions, HIDDEN_SIZE).bfloat16()
        self._stream = stream
        self._num_sessions = num_sessions
        self._frame = bytearray(encode_steps(StepsFrame(entries, hidden)))
        body, size = HEADER_BYTES, STEP_BYTES
        self._numbers = np.ndarray(  # step and position of each entry
            (num_sessions, 2), "<u4", self._frame, body + 4, (size, 4)
        )

    async def open(self) -> None:
        """Open the sessions."""
        openings = [
            Opening(
                number,
                BLOCKS,
                MAX_LENGTH,
                num_rows=1,
                token=number.to_bytes(TOKEN_BYTES, "big"),
                push_to=PushTarget(SINK, bytes(TOKEN_BYTES), BLOCKS),
            )
            for number in range(self._num_sessions)
        ]
        await self._stream.send(encode_open(openings))
        await self._receive(FrameKind.OPENED)

    async def step(self) -> None:
        """Step each session; return when all outputs are back."""
        await self._stream.send(bytes(self._frame))
        await self._receive(FrameKind.OUTPUTS)
        self._numbers += 1

    async def _receive(self, kind: FrameKind) -> None:
        num_left = self._num_sessions
        while num_left:
            data = await self._stream.receive()
            assert data is not None
            frame = parse_frame(data)
            assert frame.kind is kind
            num_left -= frame.num_entries


class EmptySpan:
    """Neither blocks nor pages."""

    def copy_pages(self, copies: Sequence[PageCopy]) -> None:
        """Copy nothing."""

    def prepare(self, _blocks: BlockRange, batch: RaggedBatch) -> Callable[[], Begun[Tensor]]:
        """Do what a GPU's does."""
        number_step(batch.segments, TILE_ROWS)
        return lambda: Begun(lambda: batch.hidden)

    def run(self, blocks: BlockRange, batch: RaggedBatch) -> Tensor:
        """Return the inputs."""
        return self.prepare(blocks, batch)().finish()


@asynccontextmanager
async def server_without_blocks() -> AsyncIterator[CallStream]:
    """Yield a stream to a server, which may push to one that drops all."""
    network = MemoryNetwork()
    node, sink, caller = (network.node(name) for name in ("server", SINK, "caller"))
    limits = LaneLimits.of_model(MODEL, step_s=600.0, session_s=600.0)
    hello = HelloHandler(MODEL, limits, dtype=torch.bfloat16, page_size=PAGE_SIZE)
    await sink.serve_unary(HELLO, hello.answer)
    await sink.serve_stream(STEPS, _drop_all)
    compute, span = ComputeThread(1), EmptySpan()
    memory = KVMemory(NUM_PAGES, KVLayout([None] * len(BLOCKS), PAGE_SIZE))
    engine = Engine(
        PagedSpan(span, span, HIDDEN_SIZE, torch.bfloat16),
        memory,
        compute,
        EngineLimits(BATCH_LIMITS),
    )
    budget = KVBudget(num_slots=2**40, slot_bytes=1)
    pushes = PushLanes(node, MODEL.dht_prefix)
    handler = DialectHandler(MODEL, engine, Admission(budget, max_sessions=512), limits, pushes)
    await node.serve_stream(STEPS, handler.serve)
    stream = await caller.open_stream(node.peer_id, STEPS)
    try:
        yield stream
    finally:
        stream.close()
        engine.close()
        for closing in (pushes.close, node.close, sink.close, compute.close):
            await closing()


async def _drop_all(stream: ServedStream) -> None:
    while await stream.receive() is not None:
        pass


if __name__ == "__main__":
    main()
