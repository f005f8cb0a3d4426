"""Sends outputs straight on to the next servers of their routes, one stream for each of them.

    client ── step ──> us ── outputs, marked as a copy ──> client
                        └── the same outputs, PUSHED ──> next server ── its outputs ──> client

Best effort: the client sends what does not arrive. Nothing comes back on these streams.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from swarm_protocol.dialect import (
    VERSION,
    HelloReply,
    HelloRequest,
    PushedEntry,
    PushedFrame,
    PushTarget,
    StepExtras,
    encode_pushed,
    good_frame_tokens,
)
from swarm_protocol.dialect.methods import HELLO, STEPS
from swarm_protocol.identifiers import PeerId
from swarm_protocol.logs import get_logger
from swarm_protocol.node import CallStream, Node
from swarm_protocol.rows import Rows, join_rows
from swarm_server.handlers.dialect.filling import fill_frames
from swarm_server.handlers.dialect.lane_step import LaneStep

log = get_logger(__name__)

_MAX_LANES: Final = 64
_MAX_WAITING_TOKENS: Final = 8192
_TIMEOUT_S: Final = 30.0
_IDLE_S: Final = 300.0


_Push: TypeAlias = tuple[bytes, LaneStep, Rows]
"""Token of a session of the next server, the step, and its outputs."""


class PushLanes:
    """Streams to other servers, opened when first needed; `close` ends them."""

    def __init__(self, node: Node, dht_prefix: str) -> None:
        self._node = node
        self._dht_prefix = dht_prefix
        self._lanes: dict[PeerId, _PushLane] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def push(self, target: PushTarget, step: LaneStep, outputs: Rows) -> bool:
        """Let outputs go on with all others until `send`; False when there is no room for them.

        Args:
            target: the session that goes on with them.
            step: whose outputs they are; its hypo_ids go with them, deep prompts do not.
            outputs: on the CPU.
        """
        lane = self._lanes.get(target.peer) or self._start(target.peer)
        return lane is not None and lane.add(target.token, step, outputs)

    def send(self) -> None:
        """Send what waits, at once where a stream is open and has room."""
        for lane in self._lanes.values():
            lane.send()

    async def close(self) -> None:
        """Give up what is under way."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, peer: PeerId) -> "_PushLane | None":
        if len(self._lanes) >= _MAX_LANES:
            return None
        lane = self._lanes[peer] = _PushLane(asyncio.get_running_loop().time)
        task = asyncio.create_task(self._run(peer, lane))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return lane

    async def _run(self, peer: PeerId, lane: "_PushLane") -> None:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                request = HelloRequest((VERSION,), self._dht_prefix)
                hello = HelloReply.parse(await self._node.call(peer, HELLO, request.to_wire()))
                stream = await self._node.open_stream(peer, STEPS)
            try:
                await lane.run(stream, hello)
            finally:
                stream.close()
        except Exception as error:  # whatever it is: the client sends its own copies
            log.debug("push_failed", peer=peer, reason=type(error).__name__)
        finally:
            del self._lanes[peer]


class _PushLane:
    """What waits to be sent to one server."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._waiting: list[_Push] = []
        self._num_tokens = 0
        self._is_there = asyncio.Event()
        self._stream: CallStream | None = None
        self._max_tokens = self._good_tokens = 0  # of a frame
        self._used_at = clock()

    def add(self, token: bytes, step: LaneStep, outputs: Rows) -> bool:
        """Let outputs wait; False when too much does already."""
        if self._num_tokens + step.size > _MAX_WAITING_TOKENS:
            return False
        self._waiting.append((token, step, outputs))
        self._num_tokens += step.size
        return True

    def send(self) -> None:
        """Send what there is room for; `run` sends the rest."""
        if not self._waiting:
            return
        stream, self._used_at = self._stream, self._clock()
        while stream is not None and stream.has_room and (frame := self._next_frame()) is not None:
            stream.send_now(frame)
        if self._waiting:
            self._is_there.set()

    async def run(self, stream: CallStream, hello: HelloReply) -> None:
        """Send what finds no room at once, until nothing has come for long.

        Raises:
            TimeoutError: nothing to send, or nobody takes it.
            PeerError: the connection broke.
        """
        self._max_tokens = hello.max_frame_tokens
        self._good_tokens = min(self._max_tokens, good_frame_tokens(hello.hidden_size))
        self._stream = stream
        while True:
            while (frame := self._next_frame()) is not None:
                async with asyncio.timeout(_TIMEOUT_S):
                    await stream.send(frame)
            await self._wait()

    async def _wait(self) -> None:
        """Wait until something finds no room; raises TimeoutError when nothing comes for long."""
        while not self._is_there.is_set():
            try:
                async with asyncio.timeout_at(self._used_at + _IDLE_S):
                    await self._is_there.wait()
            except TimeoutError:
                if self._clock() - self._used_at >= _IDLE_S:
                    raise
        self._is_there.clear()

    def _next_frame(self) -> bytes | None:
        """Take out what is sent next; None when all is."""
        while self._waiting:
            sizes = [step.size for _, step, _ in self._waiting]
            run = next(fill_frames(sizes, self._good_tokens))
            pushes, num_tokens = self._waiting[run], sum(sizes[run])
            del self._waiting[run]
            self._num_tokens -= num_tokens
            if num_tokens <= self._max_tokens:  # else it would be cut off
                return _encode(pushes)
        return None


def _encode(pushes: Sequence[_Push]) -> bytes:
    entries = [PushedEntry(token, *step.entry[1:]) for token, step, _ in pushes]
    extras = {
        index: StepExtras(step.hypo_ids)
        for index, (_, step, _) in enumerate(pushes)
        if step.hypo_ids is not None
    }
    hidden = join_rows([outputs for _, _, outputs in pushes])
    return encode_pushed(PushedFrame(entries, hidden, extras))
