"""A server that speaks our dialect and can be told to misbehave, on a memory network.

Its blocks are those of `ScriptedServer`: block `i` adds `i + 1` to every value.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import torch

from swarm_client.session.hop_session import SessionTerms
from swarm_protocol.dialect import (
    CancelFrame,
    CloseFrame,
    Failure,
    HelloReply,
    HelloRequest,
    Opened,
    OpenFrame,
    Opening,
    OutputEntry,
    OutputsFrame,
    StepsFrame,
    decode_request,
    encode_failed,
    encode_opened,
    encode_outputs,
)
from swarm_protocol.dialect.methods import HELLO, STEPS
from swarm_protocol.identifiers import BlockRange, PeerId
from swarm_protocol.memory_node import MemoryNetwork
from swarm_protocol.node import ServedStream
from tests.unit.swarm_client.scripted_server import FACTS

TERMS = SessionTerms(
    dht_prefix=FACTS.dht_prefix,
    active_adapter=None,
    max_length=32,
    max_step_tokens=1024,
    step_timeout_s=5,
    close_timeout_s=1,
)
HELLO_REPLY = HelloReply(
    version=1,
    blocks=BlockRange(0, 4),
    hidden_size=FACTS.hidden_size,
    dtype=torch.float32,
    page_size=4,
    max_frame_tokens=64,
    max_inflight_tokens=128,
    max_length=512,
)


class ScriptedLaneServer:
    """Serves blocks, and records what it was sent.

    Attributes:
        hello: what it says about itself.
        transform: may change an outputs frame, raise what ends the stream, or return None for no
            answer.
        cached_tokens: what it says to every opening.
        refused: sessions by which codes to fail, in order; empty is none.
        openings, steps, closed, cancelled: everything received, in order.
        num_hellos: how often it was greeted.
    """

    def __init__(self, network: MemoryNetwork, name: str) -> None:
        self.node = network.node(name)
        self.hello = HELLO_REPLY
        self.transform: Callable[[OutputsFrame], OutputsFrame | None] = lambda frame: frame
        self.cached_tokens = 0
        self.refused: list[str] = []
        self.openings: list[Opening] = []
        self.steps: list[StepsFrame] = []
        self.closed: list[int] = []
        self.cancelled: list[int] = []
        self.num_hellos = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    @classmethod
    async def start(cls, network: MemoryNetwork, name: str) -> "ScriptedLaneServer":
        server = cls(network, name)
        await server.node.serve_unary(HELLO, server._greet)
        await server.node.serve_stream(STEPS, server._serve)
        return server

    @property
    def peer(self) -> PeerId:
        return self.node.peer_id

    def says(self, **changes: object) -> None:
        """Change its hello."""
        self.hello = replace(self.hello, **changes)  # type: ignore[arg-type]  # tests name fields

    async def _greet(self, request: bytes, caller: PeerId) -> bytes:
        assert HelloRequest.parse(request).dht_prefix == FACTS.dht_prefix
        self.num_hellos += 1
        return self.hello.to_wire()

    async def _serve(self, stream: ServedStream) -> None:
        while (data := await stream.receive()) is not None:
            match decode_request(data):
                case OpenFrame(openings):
                    self.openings += openings
                    await self._answer_openings(stream, openings)
                case StepsFrame() as frame:
                    self.steps.append(frame)
                    await self.may_answer.wait()
                    if (outputs := self.transform(self._run(frame))) is not None:
                        await stream.send(encode_outputs(outputs))
                case CloseFrame(session_ids):
                    self.closed += session_ids
                case CancelFrame(session_ids):
                    self.cancelled += session_ids

    async def _answer_openings(self, stream: ServedStream, openings: tuple[Opening, ...]) -> None:
        failures = [
            Failure(opening.session_id, code, "no", retryable=True)
            for opening, code in zip(openings, self.refused, strict=False)
        ]
        opened = [Opened(o.session_id, self.cached_tokens) for o in openings[len(failures) :]]
        del self.refused[: len(failures)]
        if failures:
            await stream.send(encode_failed(failures))
        if opened:
            await stream.send(encode_opened(opened))

    def _run(self, frame: StepsFrame) -> OutputsFrame:
        blocks = self.openings[0].blocks
        entries = [
            OutputEntry(*entry[:5], queue_us=1500, compute_us=2500, batch_rows=len(frame.entries))
            for entry in frame.entries
        ]
        added = sum(index + 1 for index in range(blocks.start, blocks.end))
        return OutputsFrame(entries, frame.hidden + added)
