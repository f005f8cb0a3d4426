"""`Node` on hivemind: calls and streams through the daemon, records in hivemind's DHT.

Everything runs in the caller's event loop; there is no extra DHT process. An operation that is in
flight when the daemon dies raises `NodeError` instead of waiting for ever.
"""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from hivemind.dht.node import DHTNode
from hivemind.p2p import P2P, P2PDaemonError, P2PHandlerError, PeerID
from hivemind.p2p.p2p_daemon_bindings.datastructures import StreamInfo
from hivemind.p2p.p2p_daemon_bindings.utils import ControlFailure
from hivemind.utils import get_dht_time
from hivemind.utils.timed_storage import ValueWithExpiration

from swarm_protocol.errors import (
    MalformedMessageError,
    NodeError,
    PeerRefusedError,
    PeerUnreachableError,
    ProtocolNotSupportedError,
)
from swarm_protocol.hivemind.daemon import Daemon, DaemonArguments
from swarm_protocol.hivemind.failed_calls import as_peer_error
from swarm_protocol.hivemind.frames import (
    HivemindCallStream,
    HivemindServedStream,
    ServedEnd,
    ServedStreamEnd,
    StreamEnd,
)
from swarm_protocol.hivemind.guarded_calls import heed, while_running
from swarm_protocol.hivemind.rejoining import Rejoining
from swarm_protocol.hivemind.shortcuts import Shortcuts
from swarm_protocol.identifiers import PeerId, parse_peer_id
from swarm_protocol.logs import get_logger
from swarm_protocol.node import (
    MAX_UNARY_BYTES,
    CallStream,
    FoundRecord,
    RecordEntry,
    StreamHandler,
    UnaryHandler,
)

log = get_logger(__name__)
Result = TypeVar("Result")

_BOOTSTRAP_PAUSE_S: Final = 0.3
_BOOTSTRAP_ATTEMPT_S: Final = 10.0
_LEAVE_TIMEOUT_S: Final = 2.0
_PING_METHOD: Final = "DHTProtocol.rpc_ping"


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """How a node joins a swarm. No `initial_peers` means a new swarm. Durations in seconds.

    `has_shortcuts`: streams to processes of the same user on the same machine skip libp2p.
    """

    initial_peers: Sequence[str] = ()
    host_maddrs: Sequence[str] = ("/ip4/127.0.0.1/tcp/0",)
    announce_maddrs: Sequence[str] = ()
    identity_path: Path | None = None
    client_mode: bool = False
    startup_timeout_s: float = 30.0
    has_shortcuts: bool = True


class HivemindNode:
    """A peer of a real swarm. Create with `start`, end with `close`."""

    def __init__(
        self,
        daemon: Daemon,
        p2p: P2P,
        dht: DHTNode,
        maddrs: tuple[str, ...],
        rejoining: Rejoining,
        shortcuts: Shortcuts,
    ) -> None:
        self._daemon = daemon
        self._p2p = p2p
        self._dht = dht
        self._maddrs = maddrs
        self._rejoining = rejoining
        self._shortcuts = shortcuts
        self._peer_id = PeerId(p2p.peer_id.to_base58())
        self._closing = False

    @classmethod
    async def start(cls, settings: NodeSettings) -> Self:
        """Start a daemon and join the swarm, trying again until peers answer.

        Raises:
            NodeError: the daemon does not start, or no initial peer answers in time.
        """
        deadline = asyncio.get_running_loop().time() + settings.startup_timeout_s
        while True:
            try:
                return await cls._start_once(settings)
            except NodeError as error:
                too_late = asyncio.get_running_loop().time() > deadline
                if not settings.initial_peers or too_late:
                    raise
                log.debug("bootstrap_failed", reason=str(error))
                await asyncio.sleep(_BOOTSTRAP_PAUSE_S)

    @classmethod
    async def _start_once(cls, settings: NodeSettings) -> Self:
        arguments = DaemonArguments(
            settings.initial_peers,
            settings.host_maddrs,
            settings.announce_maddrs,
            settings.identity_path,
            settings.client_mode,
        )
        daemon = await Daemon.start(arguments, settings.startup_timeout_s)
        try:
            async with asyncio.timeout(_BOOTSTRAP_ATTEMPT_S):
                p2p = await daemon.connect()
                dht = await DHTNode.create(
                    p2p,
                    initial_peers=list(settings.initial_peers) or None,
                    client_mode=settings.client_mode,
                    num_workers=4,
                )
                maddrs = tuple(str(maddr) for maddr in await p2p.get_visible_maddrs())
            own_id = PeerId(p2p.peer_id.to_base58())
            shortcuts = await Shortcuts.start(own_id, is_on=settings.has_shortcuts)
        except Exception as error:  # hivemind raises bare RuntimeError, ValueError and its own
            await daemon.stop()
            raise NodeError(
                f"cannot join the swarm: {str(error) or type(error).__name__}"
            ) from error
        except BaseException:
            await daemon.stop()
            raise
        rejoining = Rejoining(daemon, dht, settings.initial_peers)
        return cls(daemon, p2p, dht, maddrs, rejoining, shortcuts)

    @property
    def peer_id(self) -> PeerId:
        return self._peer_id

    @property
    def maddrs(self) -> tuple[str, ...]:
        return self._maddrs

    async def wait_stopped(self) -> None:
        """Wait until the daemon ends without having been asked to.

        Raises:
            NodeError: always, when it has ended.
        """
        await self._daemon.stopped.wait()
        raise NodeError("the libp2p daemon of this process has ended")

    async def call(self, peer: PeerId, method: str, request: bytes) -> bytes:
        if len(request) > MAX_UNARY_BYTES - 4096:
            raise NodeError(f"a unary request of {len(request)} bytes is over the limit")
        client = self._p2p._client  # the bytes-level call has no public name
        call = client.call_unary_handler(_libp2p_id(peer), method, request)
        reply: bytes = await self._guarded(peer, call)
        return reply

    async def open_stream(self, peer: PeerId, method: str) -> CallStream:
        libp2p_id = _libp2p_id(peer)
        end = await self._shortcuts.open(peer, method)
        if end is not None:
            return HivemindCallStream(peer, end)
        call = self._daemon.open_stream(libp2p_id, method)
        reader, writer = await self._guarded(peer, call)
        return HivemindCallStream(peer, StreamEnd(reader, writer))

    async def serve_unary(self, method: str, handler: UnaryHandler) -> None:
        async def answer(request: bytes, caller: PeerID) -> bytes:
            return await handler(request, PeerId(caller.to_base58()))

        await self._p2p._client.add_unary_handler(method, answer)

    async def serve_stream(self, method: str, handler: StreamHandler) -> None:
        async def answer(caller: PeerId, end: ServedEnd) -> None:
            await _serve(HivemindServedStream(caller, end), handler)
            end.close()

        async def answer_daemon(info: StreamInfo, reader: StreamReader, out: StreamWriter) -> None:
            await answer(PeerId(info.peer_id.to_base58()), ServedStreamEnd(reader, out))

        await self._p2p.add_binary_stream_handler(method, answer_daemon)
        self._shortcuts.serve(method, answer)

    async def store(self, entries: Sequence[RecordEntry], *, ttl_s: float) -> bool:
        if not entries:
            return True
        stored = await self._dht.store_many(
            keys=[entry.key for entry in entries],
            values=[entry.value for entry in entries],
            subkeys=[entry.subkey for entry in entries],
            expiration_time=get_dht_time() + ttl_s,
        )
        return all(stored.values())

    async def lookup(self, keys: Sequence[str]) -> Mapping[str, Mapping[str, FoundRecord]]:
        # An infinite sufficient expiration makes hivemind visit every replica and merge.
        found = await self._dht.get_many(list(keys), sufficient_expiration_time=inf)
        return {
            key: _records(entry.value)
            for key, entry in found.items()
            if entry is not None and isinstance(entry.value, dict)
        }

    async def ping(self, peer: PeerId) -> float:
        loop = asyncio.get_running_loop()
        started_at = loop.time()
        with suppress(ProtocolNotSupportedError, PeerRefusedError):  # those are answers, too
            await self.call(peer, _PING_METHOD, b"")
        return loop.time() - started_at

    async def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        await self._rejoining.stop()
        await self._shortcuts.close()
        # hivemind fails in many ways, waiting for ever among them, when its daemon is gone.
        with suppress(Exception):
            async with asyncio.timeout(0 if self._daemon.stopped.is_set() else _LEAVE_TIMEOUT_S):
                await self._dht.shutdown()
        with suppress(Exception):
            await self._p2p.shutdown()
        await self._daemon.stop()

    async def _guarded(self, peer: PeerId, call: Coroutine[Any, Any, Result]) -> Result:
        """Await a call on the daemon, translating its errors and noticing its death."""
        try:
            return await while_running(call, self._daemon.stopped)
        except (P2PDaemonError, P2PHandlerError, ControlFailure) as error:
            raise as_peer_error(peer, error) from error
        except (OSError, asyncio.IncompleteReadError) as error:
            raise NodeError("the libp2p daemon of this process does not answer") from error


async def _serve(stream: HivemindServedStream, handler: StreamHandler) -> None:
    """Run the handler until it ends or the caller leaves, whichever comes first."""
    failure: str | None = None
    task = asyncio.ensure_future(handler(stream))
    task.add_done_callback(heed)
    leaving = asyncio.ensure_future(stream.wait_left())
    try:
        await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
    except Exception as error:
        log.info("stream_handler_failed", peer=stream.caller, error=type(error).__name__)
        failure = str(error)
    finally:
        leaving.cancel()
        task.cancel()
        await asyncio.wait({task, leaving})
    if failure is not None:
        await stream.send_error(failure)
        await stream.wait_heard()


def _records(entries: Mapping[object, object]) -> dict[str, FoundRecord]:
    return {
        subkey: FoundRecord(entry.value, entry.expiration_time)
        for subkey, entry in entries.items()
        if isinstance(subkey, str) and isinstance(entry, ValueWithExpiration)
    }


def _libp2p_id(peer: PeerId) -> PeerID:
    """Return hivemind's form of an id, which may have come from anybody's record in the DHT."""
    try:
        return PeerID.from_base58(parse_peer_id(peer))
    except MalformedMessageError as error:
        raise PeerUnreachableError(peer, "this is no peer id") from error
