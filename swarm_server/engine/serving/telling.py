"""Tells whoever has made steps how these have ended, and lets them pass that on together.

    batch ended ──> listener, listener, … ──> afterwards: outputs leave, in few frames

All of it is one turn of the event loop: who decodes alone waits for every further one.
"""

import asyncio
from collections.abc import Callable, Sequence

from swarm_protocol.logs import get_logger
from swarm_server.engine.serving.work import Work

log = get_logger(__name__)


class Telling:
    """For the event loop only."""

    def __init__(self) -> None:
        self._is_telling = False
        self._afterwards: dict[Callable[[], None], None] = {}  # in order, each once

    def tell(self, finished: Sequence[Work], finished_at: float, num_batch_rows: int) -> None:
        """Tell the listeners of steps that are done, and call what they want called afterwards.

        Args:
            finished: have all their outputs.
            finished_at: reading of the engine's clock.
            num_batch_rows: of the batch that has given the last of them.
        """
        self._is_telling = True
        for work in finished:
            try:
                work.on_done(work.result(finished_at, num_batch_rows))
            except Exception as error:  # of one listener; the others must hear of theirs
                log.error("listener_failed", error=type(error).__name__, exc_info=error)
        self._is_telling = False
        callbacks, self._afterwards = self._afterwards, {}
        for callback in callbacks:
            try:
                callback()
            except Exception as error:
                log.error("listener_failed", error=type(error).__name__, exc_info=error)

    def call_afterwards(self, callback: Callable[[], None]) -> None:
        """Call back once all listeners of this moment have heard, however often they ask for it.

        When the loop turns next, if nobody is being told just now.
        """
        if self._is_telling:
            self._afterwards[callback] = None
        else:
            asyncio.get_running_loop().call_soon(callback)
