"""`Node` inside one process, for tests: same contract, no sockets.

A `MemoryNetwork` holds the nodes and their records. `cut` makes a peer vanish as a crash does:
its streams break at once and nobody can reach it until `heal`.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from time import time

from swarm_protocol.errors import (
    NodeError,
    PeerRefusedError,
    PeerUnreachableError,
    ProtocolNotSupportedError,
)
from swarm_protocol.identifiers import PeerId
from swarm_protocol.node import (
    MAX_FRAME_BYTES,
    FoundRecord,
    RecordEntry,
    StreamHandler,
    UnaryHandler,
)

_PREFETCHED_FRAMES = 4


class MemoryNetwork:
    """The swarm of a test. Nodes are made by `node`."""

    def __init__(self) -> None:
        self.nodes: dict[PeerId, MemoryNode] = {}
        self.records: dict[str, dict[str, FoundRecord]] = defaultdict(dict)
        self._cut: set[PeerId] = set()

    def node(self, name: str) -> "MemoryNode":
        """Return a new node whose peer id is `name`."""
        node = MemoryNode(self, PeerId(name))
        self.nodes[node.peer_id] = node
        return node

    def cut(self, peer: PeerId) -> None:
        """Make a peer vanish: calls to it fail, its streams break on both sides."""
        self._cut.add(peer)
        for node in self.nodes.values():
            for pipe in list(node.pipes):
                if peer in (pipe.caller, pipe.server):
                    pipe.break_off()

    def heal(self, peer: PeerId) -> None:
        """Make a cut peer reachable again; what broke stays broken."""
        self._cut.discard(peer)

    def find(self, caller: PeerId, peer: PeerId) -> "MemoryNode":
        """Return the node that `caller` wants to reach."""
        node = self.nodes.get(peer)
        if node is None or node.is_closed or {caller, peer} & self._cut:
            raise PeerUnreachableError(peer, "cannot be reached")
        return node


class _Pipe:
    """Both directions of one streaming call."""

    def __init__(self, caller: PeerId, server: PeerId) -> None:
        self.caller = caller
        self.server = server
        self.requests: asyncio.Queue[bytes | None] = asyncio.Queue(_PREFETCHED_FRAMES)
        self.replies: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()
        self.task: asyncio.Task[None] | None = None
        self.is_broken = asyncio.Event()

    async def put_request(self, frame: bytes | None) -> None:
        """Take in what the caller sends; None is its end. Waits for room.

        Raises:
            PeerUnreachableError: the call has ended, or ends before there is room.
        """
        if not self.is_broken.is_set():
            if not self.requests.full():
                self.requests.put_nowait(frame)
                return
            putting = asyncio.ensure_future(self.requests.put(frame))
            breaking = asyncio.ensure_future(self.is_broken.wait())
            try:
                await asyncio.wait((putting, breaking), return_when=asyncio.FIRST_COMPLETED)
                if putting.done():
                    return
            finally:
                putting.cancel()
                breaking.cancel()
        raise PeerUnreachableError(self.server, "the connection broke")

    def break_off(self) -> None:
        self.is_broken.set()
        self.replies.put_nowait(PeerUnreachableError(self.server, "the connection broke"))
        if self.task is not None:
            self.task.cancel()


class MemoryCallStream:
    """The calling side (`CallStream`)."""

    def __init__(self, pipe: _Pipe) -> None:
        self._pipe = pipe

    @property
    def has_room(self) -> bool:
        return not self._pipe.is_broken.is_set() and self._pipe.requests.empty()

    def send_now(self, frame: bytes) -> None:
        self._pipe.requests.put_nowait(frame)

    async def send(self, frame: bytes) -> None:
        await self._pipe.put_request(frame)

    async def receive(self) -> bytes | None:
        if self._pipe.is_broken.is_set() and self._pipe.replies.empty():
            raise PeerUnreachableError(self._pipe.server, "the connection broke")
        reply = await self._pipe.replies.get()
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def finish(self) -> None:
        with suppress(PeerUnreachableError):
            await self._pipe.put_request(None)

    def close(self) -> None:
        self._pipe.break_off()


class MemoryServedStream:
    """The serving side (`ServedStream`)."""

    def __init__(self, pipe: _Pipe) -> None:
        self._pipe = pipe

    @property
    def caller(self) -> PeerId:
        return self._pipe.caller

    async def receive(self) -> bytes | None:
        frame = await self._pipe.requests.get()
        if frame is not None and len(frame) > MAX_FRAME_BYTES:
            raise NodeError("a frame is over the limit")
        return frame

    @property
    def has_room(self) -> bool:
        return not self._pipe.is_broken.is_set()

    def send_now(self, frame: bytes) -> None:
        self._pipe.replies.put_nowait(frame)

    async def send(self, frame: bytes) -> None:
        if self._pipe.is_broken.is_set():
            raise PeerUnreachableError(self._pipe.caller, "the caller is gone")
        await self._pipe.replies.put(frame)


class MemoryNode:
    """A peer of a `MemoryNetwork`."""

    def __init__(self, network: MemoryNetwork, peer_id: PeerId) -> None:
        self._network = network
        self._peer_id = peer_id
        self._unary: dict[str, UnaryHandler] = {}
        self._streams: dict[str, StreamHandler] = {}
        self.pipes: set[_Pipe] = set()
        self.is_closed = False

    @property
    def peer_id(self) -> PeerId:
        return self._peer_id

    @property
    def maddrs(self) -> tuple[str, ...]:
        return (f"/memory/{self._peer_id}",)

    async def call(self, peer: PeerId, method: str, request: bytes) -> bytes:
        handler = self._find(peer)._unary.get(method)
        if handler is None:
            raise ProtocolNotSupportedError(peer, "does not serve this method")
        try:
            return await handler(request, self._peer_id)
        except Exception as error:
            raise PeerRefusedError(peer, repr(error)) from error

    async def open_stream(self, peer: PeerId, method: str) -> MemoryCallStream:
        server = self._find(peer)
        handler = server._streams.get(method)
        if handler is None:
            raise ProtocolNotSupportedError(peer, "does not serve this method")
        pipe = _Pipe(self._peer_id, peer)
        server.pipes.add(pipe)
        pipe.task = asyncio.ensure_future(server._serve(pipe, handler))
        return MemoryCallStream(pipe)

    async def serve_unary(self, method: str, handler: UnaryHandler) -> None:
        self._unary[method] = handler

    async def serve_stream(self, method: str, handler: StreamHandler) -> None:
        self._streams[method] = handler

    async def store(self, entries: Sequence[RecordEntry], *, ttl_s: float) -> bool:
        self._find(self._peer_id)
        for entry in entries:
            found = FoundRecord(entry.value, time() + ttl_s)
            self._network.records[entry.key][entry.subkey] = found
        return True

    async def lookup(self, keys: Sequence[str]) -> Mapping[str, Mapping[str, FoundRecord]]:
        self._find(self._peer_id)
        now = time()
        found: dict[str, dict[str, FoundRecord]] = {}
        for key in keys:
            records = self._network.records.get(key, {})
            live = {sub: record for sub, record in records.items() if record.expires_at > now}
            if live:
                found[key] = live
        return found

    async def ping(self, peer: PeerId) -> float:
        self._find(peer)
        return 0.0

    async def close(self) -> None:
        self.is_closed = True
        for pipe in list(self.pipes):
            pipe.break_off()
        tasks = [pipe.task for pipe in self.pipes if pipe.task is not None]
        await asyncio.gather(*tasks, return_exceptions=True)

    def _find(self, peer: PeerId) -> "MemoryNode":
        if self.is_closed:
            raise NodeError("this node is closed")
        return self._network.find(self._peer_id, peer)

    async def _serve(self, pipe: _Pipe, handler: StreamHandler) -> None:
        try:
            await handler(MemoryServedStream(pipe))
            await pipe.replies.put(None)
        except Exception as error:
            await pipe.replies.put(PeerRefusedError(pipe.server, str(error) or "no reason given"))
        finally:
            pipe.is_broken.set()
            self.pipes.discard(pipe)
