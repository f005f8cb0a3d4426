"""How many streams are open at once: each may hold a large frame before anything is admitted."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from swarm_protocol.identifiers import PeerId
from swarm_protocol.logs import get_logger
from swarm_protocol.node import ServedStream, StreamHandler
from swarm_server.errors import TooManyStreamsError

log = get_logger(__name__)


class OpenStreams:
    """Counts the streams of all handlers that it has bounded, whatever they are for."""

    def __init__(self, *, max_streams: int, max_per_peer: int) -> None:
        """Begin without streams.

        Args:
            max_streams: of all peers together.
            max_per_peer: of each.
        """
        self._max_streams = max_streams
        self._max_per_peer = max_per_peer
        self._by_peer = Counter[PeerId]()
        self._num_streams = 0

    def bounded(self, handler: StreamHandler) -> StreamHandler:
        """Return the handler, but one that refuses streams over a bound before it reads of them."""

        async def serve(stream: ServedStream) -> None:
            with self._counted(stream.caller):
                await handler(stream)

        return serve

    @contextmanager
    def _counted(self, peer: PeerId) -> Iterator[None]:
        """Count a stream; raises TooManyStreamsError."""
        if self._by_peer[peer] >= self._max_per_peer:
            raise self._refusal(peer, self._max_per_peer, "from one peer")
        if self._num_streams >= self._max_streams:
            raise self._refusal(peer, self._max_streams, "from all peers")
        self._num_streams += 1
        self._by_peer[peer] += 1
        try:
            yield
        finally:
            self._num_streams -= 1
            self._by_peer[peer] -= 1
            if not self._by_peer[peer]:
                del self._by_peer[peer]

    def _refusal(self, peer: PeerId, max_streams: int, whose: str) -> TooManyStreamsError:
        error = TooManyStreamsError(max_streams, whose)
        log.warning("stream_refused", peer=peer, code=error.code, max_streams=max_streams)
        return error
