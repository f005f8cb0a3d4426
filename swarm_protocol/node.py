"""What this project needs from a peer-to-peer node, as Protocols.

Two implementations pass the same contract tests: `swarm_protocol.hivemind.HivemindNode` (libp2p,
real) and `swarm_protocol.memory_node.MemoryNode` (one process, for tests). A node moves bytes and
small records; it knows neither protobuf messages nor tensors (`messages`, `tensor_codec`).
Every wait on a peer may be cancelled; deadlines are the caller's.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from swarm_protocol.identifiers import PeerId

MAX_UNARY_BYTES = 4 * 1024 * 1024
"""Envelope limit of a unary call, in bytes. Source: PETALS_PROTOCOL §0.3."""

MAX_FRAME_BYTES = 64 * 1024 * 1024
"""Our limit for one frame of a stream, in bytes; a larger one ends the stream."""


class Outlet(Protocol):
    """Where a stream takes frames at once, for whoever must not wait; `send` is for all others."""

    @property
    def has_room(self) -> bool:
        """Whether `send_now` may be called: all before has left, and the connection is there."""

    def send_now(self, frame: bytes) -> None:
        """Send one frame if `has_room` has just said so; it leaves with this call if it can.

        One that is lost with the connection is not told of: `send` or `receive` tell that.
        """


class CallStream(Outlet, Protocol):
    """The calling side of one streaming call. Frames arrive whole and in order."""

    async def send(self, frame: bytes) -> None:
        """Send one request frame; returns when the transport has taken it.

        Raises:
            PeerUnreachableError: the connection broke.
        """

    async def receive(self) -> bytes | None:
        """Return the next reply frame, or None when the peer has ended the stream normally.

        Raises:
            PeerUnreachableError: the connection broke in the middle of a frame.
            PeerRefusedError: the peer's handler failed; `reason` holds its text.
            PeerMisbehavedError: the frame has an unknown marker or is over the limit.
        """

    async def finish(self) -> None:
        """Say that no more requests will come; replies may still be received."""

    def close(self) -> None:
        """Abandon the call at once. Idempotent; never raises."""


class ServedStream(Outlet, Protocol):
    """The serving side of one streaming call."""

    @property
    def caller(self) -> PeerId:
        """The authenticated id of the calling peer."""

    async def receive(self) -> bytes | None:
        """Return the next request frame, or None when the caller sent its end or went away.

        Raises:
            MalformedMessageError: the frame has an unknown marker or is over the limit.
        """

    async def send(self, frame: bytes) -> None:
        """Send one reply frame.

        Raises:
            PeerUnreachableError: the caller is gone.
        """


UnaryHandler = Callable[[bytes, PeerId], Awaitable[bytes]]
StreamHandler = Callable[[ServedStream], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class RecordEntry:
    """One record to publish: `value` is any msgpack-able object, stored under key and subkey."""

    key: str
    subkey: str
    value: object


@dataclass(frozen=True, slots=True)
class FoundRecord:
    """A record found in the DHT, unpacked but not validated. `expires_at` is UTC, in seconds."""

    value: object
    expires_at: float


class Node(Protocol):
    """A peer of the swarm: calls and serves methods, publishes and finds records."""

    @property
    def peer_id(self) -> PeerId:
        """Our own identity."""

    @property
    def maddrs(self) -> tuple[str, ...]:
        """Full multiaddrs (`/ip4/…/tcp/…/p2p/<peer id>`) at which others can reach us."""

    async def call(self, peer: PeerId, method: str, request: bytes) -> bytes:
        """Make a unary call.

        Raises:
            PeerUnreachableError, PeerRefusedError, ProtocolNotSupportedError: see the classes.
            NodeError: our own node has stopped.
        """

    async def open_stream(self, peer: PeerId, method: str) -> CallStream:
        """Open a streaming call. Raises as `call` does."""

    async def serve_unary(self, method: str, handler: UnaryHandler) -> None:
        """Answer unary calls of `method`; what the handler raises goes back as `repr(error)`."""

    async def serve_stream(self, method: str, handler: StreamHandler) -> None:
        """Answer streaming calls of `method`.

        The handler runs in its own task and is cancelled when the caller disappears. Returning
        ends the stream normally; what it raises goes back as an error frame with `str(error)`.
        """

    async def store(self, entries: Sequence[RecordEntry], *, ttl_s: float) -> bool:
        """Publish records for `ttl_s` seconds; True when every one was accepted by some peer."""

    async def lookup(self, keys: Sequence[str]) -> Mapping[str, Mapping[str, FoundRecord]]:
        """Return the newest live records, `{key: {subkey: record}}`; missing keys are absent."""

    async def ping(self, peer: PeerId) -> float:
        """Return the round-trip time in seconds; a peer without DHT handlers counts as alive.

        Raises:
            PeerUnreachableError: no answer.
        """

    async def close(self) -> None:
        """Stop serving, leave the swarm, end the daemon. Idempotent."""
