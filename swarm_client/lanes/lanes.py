"""One lane to each server of a model that speaks our dialect.

A server is greeted once. One that does not know the hello speaks the Petals dialect, and is not
greeted again until it has failed.
"""

import asyncio
from collections.abc import Callable, Sequence
from time import monotonic
from traceback import format_exception

from swarm_client.errors import ModelClosedError
from swarm_client.lanes.chained_session import chain_sessions
from swarm_client.lanes.lane import Lane
from swarm_client.lanes.lane_session import LaneHopSession
from swarm_client.routing import Hop
from swarm_client.session.hop_session import HopSession, SessionTerms
from swarm_protocol.busy_polling import BusyPolling
from swarm_protocol.detached_tasks import start_detached
from swarm_protocol.dialect import VERSION, HelloReply, HelloRequest
from swarm_protocol.dialect.methods import HELLO, STEPS
from swarm_protocol.errors import (
    MalformedMessageError,
    PeerMisbehavedError,
    PeerUnreachableError,
    ProtocolNotSupportedError,
)
from swarm_protocol.identifiers import PeerId
from swarm_protocol.logs import get_logger
from swarm_protocol.node import Node

log = get_logger(__name__)


class Lanes:
    """Opens lanes when they are needed, and keeps them. All sessions of a process share one.

    A lane that has broken, or whose peer is to be forgotten, is replaced when the next session
    wants it.
    """

    def __init__(
        self,
        node: Node,
        *,
        dht_prefix: str,
        hidden_size: int,
        timeout_s: float,
        stay_awake_s: float = 0.0,
        on_leaving: Callable[[PeerId], None] = lambda peer: None,
        on_lost: Callable[[PeerId], None] = lambda peer: None,
    ) -> None:
        """Begin without lanes.

        Args:
            node: stays the caller's to close, after these.
            dht_prefix: of the model.
            hidden_size: of the model.
            timeout_s: for greeting a server and opening a lane to it.
            stay_awake_s: so long the loop does not sleep after a decode step was sent.
            on_leaving: is told when a server says that it is about to stop.
            on_lost: is told when a connection breaks, be it used or not.
        """
        self._node = node
        self._hello = HelloRequest((VERSION,), dht_prefix).to_wire()
        self._hidden_size = hidden_size
        self._timeout_s = timeout_s
        self._polling = BusyPolling(monotonic, stay_awake_s) if stay_awake_s else None
        self._on_leaving = on_leaving
        self._on_lost = on_lost
        self._lanes: dict[PeerId, asyncio.Task[Lane | None]] = {}  # None: it speaks Petals
        self._running: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def session(self, hop: Hop, terms: SessionTerms) -> LaneHopSession | None:
        """Return a new session with the hop's server; None when it speaks the Petals dialect.

        Raises:
            PeerError: it cannot be reached, or its hello fails a check.
            NodeError: our own node has stopped.
            ModelClosedError: `close` was called, before or meanwhile.
        """
        lane = await self._lane(hop.peer)
        return None if lane is None else lane.session(hop, terms)

    async def greet(self, peer: PeerId) -> bool:
        """Have a lane ready for sessions to come; False when the peer speaks the Petals dialect.

        Raises:
            PeerError, NodeError, ModelClosedError: as `session`.
        """
        return await self._lane(peer) is not None

    def chain(self, sessions: Sequence[HopSession]) -> Sequence[HopSession]:
        """Return sessions of consecutive hops, whose servers send outputs on to each other."""
        return chain_sessions(sessions)

    def forget(self, peer: PeerId) -> None:
        """Greet this peer anew next time: it may be stuck, or come back as another program.

        Sessions in its lane go on.
        """
        opening = self._lanes.get(peer)
        if opening is not None and opening.done():
            self._drop(peer, opening)
            if lane := opening.result():
                lane.retire()

    async def close(self) -> None:
        """Close all lanes; their sessions fail, and there are no new ones. Idempotent."""
        self._is_closed = True
        tasks = [*self._lanes.values(), *self._running]
        self._lanes.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _lane(self, peer: PeerId) -> Lane | None:
        while True:
            opening = self._lanes.get(peer) or self._begin(peer)
            if not opening.done():
                await asyncio.wait([opening])  # and let it go on for others who wait for it
            if self._is_closed:
                raise ModelClosedError
            lane = opening.result()
            if lane is None or lane.is_open:
                return lane
            self._drop(peer, opening)

    def _begin(self, peer: PeerId) -> asyncio.Task[Lane | None]:
        if self._is_closed:
            raise ModelClosedError
        opening = start_detached(self._open(peer))
        self._lanes[peer] = opening

        def drop_failed(ended: asyncio.Task[Lane | None]) -> None:
            if ended.cancelled() or ended.exception() is not None:
                self._drop(peer, ended)

        opening.add_done_callback(drop_failed)
        return opening

    def _drop(self, peer: PeerId, opening: asyncio.Task[Lane | None]) -> None:
        if self._lanes.get(peer) is opening:
            del self._lanes[peer]

    async def _open(self, peer: PeerId) -> Lane | None:
        try:
            async with asyncio.timeout(self._timeout_s):
                hello = await self._greet(peer)
                stream = await self._node.open_stream(peer, STEPS)
        except ProtocolNotSupportedError:
            return None
        except TimeoutError as error:
            reason = f"no lane to it within {self._timeout_s:g} s"
            raise PeerUnreachableError(peer, reason) from error
        lane = Lane(peer, stream, hello, self._on_leaving, self._polling)
        running = start_detached(self._run(lane))
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        running.add_done_callback(lambda _: stream.close())  # if it ends before it begins
        return lane

    async def _greet(self, peer: PeerId) -> HelloReply:
        try:
            hello = HelloReply.parse(await self._node.call(peer, HELLO, self._hello))
        except MalformedMessageError as error:
            raise PeerMisbehavedError(peer, str(error)) from error
        if hello.version != VERSION:
            raise PeerMisbehavedError(peer, f"it chose version {hello.version} of our dialect")
        if hello.hidden_size != self._hidden_size:
            raise PeerMisbehavedError(
                peer,
                f"expected a model of hidden size {self._hidden_size}, got {hello.hidden_size}",
            )
        return hello

    async def _run(self, lane: Lane) -> None:
        try:
            await lane.run()
            if lane.is_lost:
                self._on_lost(lane.peer)
        except Exception as error:  # the edge of the task; its sessions have learned of the end
            log.error("lane_failed", traceback="".join(format_exception(error)))
