"""A server that speaks our dialect and can be told to misbehave, on a memory network.

Its blocks are those of `ScriptedServer`: block `i` adds `i + 1` to every value.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from swarm_client.session.hop_session import SessionTerms
from swarm_protocol.dialect import (
    DRAINING_CODE,
    NO_SESSION,
    ONLY_LAST,
    STEP_FLAGS,
    WANTS_PUSH,
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
    StepEntry,
    StepsFrame,
    decode_request,
    encode_failed,
    encode_opened,
    encode_outputs,
    split_rows,
)
from swarm_protocol.dialect.methods import HELLO, STEPS
from swarm_protocol.identifiers import BlockRange, PeerId, make_uid
from swarm_protocol.memory_node import MemoryNetwork
from swarm_protocol.node import RecordEntry, ServedStream
from swarm_protocol.records import ServerRecord, ServerState
from tests.unit.swarm_client.scripted_server import FACTS

TERMS = SessionTerms(
    dht_prefix=FACTS.dht_prefix,
    active_adapter=None,
    max_length=32,
    max_step_tokens=1024,
    step_timeout_s=5,
    close_timeout_s=1,
    kv_wait_s=3,
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
    step_flags=STEP_FLAGS,
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
        may_greet, may_open, may_answer: hellos, openings and steps wait for them.
        neighbour: gets the outputs of steps that want a push; None: they get lost.
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
        self.neighbour: ScriptedLaneServer | None = None
        self._stream: ServedStream | None = None
        self._seen: set[tuple[ServedStream, int, int]] = set()
        self.may_greet, self.may_open, self.may_answer = (asyncio.Event() for _ in range(3))
        for event in (self.may_greet, self.may_open, self.may_answer):
            event.set()

    @classmethod
    async def start(cls, network: MemoryNetwork, name: str) -> "ScriptedLaneServer":
        server = cls(network, name)
        await server.node.serve_unary(HELLO, server._greet)
        await server.node.serve_stream(STEPS, server._serve)
        return server

    async def announce(self, blocks: str) -> None:
        """Let clients find it in the DHT."""
        span = BlockRange.parse(blocks)
        record = ServerRecord(
            state=ServerState.ONLINE, throughput=1.0, start_block=span.start, end_block=span.end
        )
        entries = [
            RecordEntry(make_uid(FACTS.dht_prefix, index), self.peer, record.to_wire())
            for index in range(span.start, span.end)
        ]
        await self.node.store(entries, ttl_s=60)

    @property
    def peer(self) -> PeerId:
        return self.node.peer_id

    def says(self, **changes: object) -> None:
        """Change its hello."""
        self.hello = replace(self.hello, **changes)  # type: ignore[arg-type]  # tests name fields

    async def tell_draining(self) -> None:
        """Say that it is about to stop."""
        assert self._stream is not None
        failure = Failure(NO_SESSION, DRAINING_CODE, "soon", retryable=True)
        await self._stream.send(encode_failed([failure]))

    async def _greet(self, request: bytes, caller: PeerId) -> bytes:
        assert HelloRequest.parse(request).dht_prefix == FACTS.dht_prefix
        self.num_hellos += 1
        await self.may_greet.wait()
        return self.hello.to_wire()

    async def take_pushed(self, session_token: bytes, entry: StepEntry, hidden: Tensor) -> None:
        """Run a step that another server sends."""
        by_token = {opening.token: opening for opening in self.openings}
        while session_token not in by_token:  # it is on its way
            await asyncio.sleep(0)
            by_token = {opening.token: opening for opening in self.openings}
        assert self._stream is not None
        entry = entry._replace(session_id=by_token[session_token].session_id)
        await self._answer(self._stream, StepsFrame([entry], hidden))

    async def _serve(self, stream: ServedStream) -> None:
        self._stream = stream
        while (data := await stream.receive()) is not None:
            match decode_request(data):
                case OpenFrame(openings):
                    self.openings += openings
                    await self._answer_openings(stream, openings)
                case StepsFrame() as frame:
                    self.steps.append(frame)
                    await self._answer(stream, frame)
                case CloseFrame(session_ids):
                    self.closed += session_ids
                case CancelFrame(session_ids):
                    self.cancelled += session_ids

    async def _answer_openings(self, stream: ServedStream, openings: tuple[Opening, ...]) -> None:
        await self.may_open.wait()
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

    async def _answer(self, stream: ServedStream, frame: StepsFrame) -> None:
        """Answer the steps; all of a frame are new, or none."""
        await self.may_answer.wait()
        steps = {(stream, entry.session_id, entry.step) for entry in frame.entries}
        if steps <= self._seen:
            return
        self._seen |= steps
        outputs = self._run(frame)
        if self.neighbour is not None:
            await self._push(frame, outputs.hidden)
        if (changed := self.transform(outputs)) is not None:
            await stream.send(encode_outputs(changed))

    async def _push(self, frame: StepsFrame, hidden: Tensor) -> None:
        targets = {opening.session_id: opening.push_to for opening in self.openings}
        for entry, rows in zip(frame.entries, split_rows(frame.entries, hidden), strict=True):
            target = targets[entry.session_id]
            if entry.flags & WANTS_PUSH and target is not None:
                assert self.neighbour is not None
                assert target.peer == self.neighbour.peer
                await self.neighbour.take_pushed(target.token, entry, rows.flatten(0, 1))

    def _run(self, frame: StepsFrame) -> OutputsFrame:
        blocks = self.openings[0].blocks
        added = sum(index + 1 for index in range(blocks.start, blocks.end))
        entries, parts = list[OutputEntry](), list[Tensor]()
        for entry, rows in zip(
            frame.entries, split_rows(frame.entries, frame.hidden + added), strict=True
        ):
            assert not entry.flags & ~self.hello.step_flags, "a flag that we do not know"
            output = OutputEntry(*entry[:5], 1500, 2500, len(frame.entries))
            if self._wants_only_last(entry):
                last = entry.position + entry.num_tokens - 1
                output = output._replace(position=last, num_tokens=1, flags=ONLY_LAST)
                rows = rows[:, -1:]
            entries.append(output)
            parts.append(rows.flatten(0, 1))
        return OutputsFrame(entries, torch.cat(parts))

    def _wants_only_last(self, entry: StepEntry) -> bool:
        next_servers = {opening.session_id: opening.push_to for opening in self.openings}
        return bool(entry.flags & ONLY_LAST) and next_servers[entry.session_id] is None
