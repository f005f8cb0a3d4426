"""`swarmgate.steps`: one stream carries all sessions of one client.

Source: docs/reference/protocol.md.
"""

import asyncio

from swarm_protocol.errors import SwarmError
from swarm_protocol.logs import get_logger
from swarm_protocol.node import ServedStream
from swarm_server.errors import ServerDrainingError
from swarm_server.handlers.admission import Admission
from swarm_server.handlers.dialect.engine import SessionEngine
from swarm_server.handlers.dialect.failures import presentable
from swarm_server.handlers.dialect.inflight import AllInflight
from swarm_server.handlers.dialect.lane import LaneServices, ServedLane
from swarm_server.handlers.dialect.limits import LaneLimits
from swarm_server.handlers.dialect.opener import SessionOpener
from swarm_server.handlers.dialect.push_lanes import PushLanes
from swarm_server.handlers.opening import ServedModel

log = get_logger(__name__)


class DialectHandler:
    """Serves all streams of our dialect."""

    def __init__(
        self,
        model: ServedModel,
        engine: SessionEngine,
        admission: Admission,
        limits: LaneLimits,
        pushes: PushLanes,
    ) -> None:
        opener = SessionOpener(model, engine, admission, limits)
        self._services = LaneServices(
            model,
            limits,
            opener,
            pushes,
            by_token={},
            inflight=AllInflight(limits.max_total_tokens),
            call_afterwards=engine.call_afterwards,
        )
        self._ends: set[asyncio.Timeout] = set()
        self._lanes: set[ServedLane] = set()
        self._is_draining = False

    def start_draining(self) -> None:
        """Tell all clients that the server is about to stop, those that come later as well."""
        self._is_draining = True
        for lane in self._lanes:
            lane.tell_draining()

    def end_all(self) -> None:
        """End every stream now; memory of sessions in a batch is back when the batch ends."""
        now = asyncio.get_running_loop().time()
        for end in self._ends:
            if not end.expired():
                end.reschedule(now)

    def check_integrity(self) -> None:
        """Assert that streams that have ended have left nothing behind."""
        self._services.inflight.check_integrity()
        if not self._lanes:
            assert not self._services.by_token
            assert self._services.inflight.num_tokens == 0

    async def serve(self, stream: ServedStream) -> None:
        """Serve one stream until the client ends it, leaves, or sends what no right client does.

        Raises:
            SwarmError: its text goes to the client.
        """
        lane = ServedLane(stream, self._services)
        self._lanes.add(lane)
        if self._is_draining:
            lane.tell_draining()
        error: SwarmError | None = None
        try:
            async with asyncio.timeout(None) as end:
                self._ends.add(end)
                try:
                    await lane.run()
                finally:
                    self._ends.discard(end)
        except* TimeoutError:
            error = ServerDrainingError()
        except* Exception as failures:
            error = presentable(failures.exceptions[0])
        finally:
            self._lanes.discard(lane)
        if error is not None:
            log.warning("stream_failed", peer=stream.caller, code=error.code)
            raise error
