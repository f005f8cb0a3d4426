"""Doing something again that may work a moment later."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from swarm_protocol.logs import get_logger

T = TypeVar("T")

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Retries:
    """Attempts with growing, jittered pauses, all under one deadline.

    The deadline says when no further attempt begins; it does not cut one short, for a download of
    hours that works is none to give up.

    Args:
        retry_s: time from the first failure to the deadline.
        pause_s: first pause; each later one is twice as long, up to `max_pause_s`.
    """

    retry_s: float = 60.0
    pause_s: float = 0.5
    max_pause_s: float = 8.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    jitter: random.Random = field(default_factory=random.Random)

    def run(self, attempt: Callable[[], T], *, may_pass: Callable[[Exception], bool]) -> T:
        """Return what `attempt` returns.

        Args:
            attempt: is called again after an error that may pass.
            may_pass: tells whether an error may be gone a moment later.

        Raises:
            Exception: the last error, at the deadline, or one that will not pass.
        """
        deadline: float | None = None
        pause_s = self.pause_s
        while True:
            try:
                return attempt()
            except Exception as error:  # which errors count is the caller's to say
                now = self.clock()
                deadline = now + self.retry_s if deadline is None else deadline
                wait_s = pause_s * self.jitter.uniform(0.5, 1.0)
                if not may_pass(error) or now + wait_s > deadline:
                    raise
                log.warning("attempt_failed", reason=type(error).__name__, wait_s=round(wait_s, 1))
            self.sleep(wait_s)
            pause_s = min(2 * pause_s, self.max_pause_s)
