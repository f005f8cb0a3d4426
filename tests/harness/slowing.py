"""A server that gets a share of its time only, as on a machine with too much to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Final

from tests.harness.churn_swarm import Replica
from tests.harness.killing import Force

_PERIOD_S: Final = 0.05


@contextmanager
def slowed(replica: Replica, times: float) -> Iterator[None]:
    """Let a server and its daemon stand still most of the time, inside the `with` block.

    Args:
        replica: that runs; and so it does afterwards.
        times: how many times as long everything takes.
    """
    is_over = Event()
    running_s = _PERIOD_S / times

    def slow() -> None:
        while not is_over.wait(running_s):
            replica.strike(Force.SILENCE)
            is_over.wait(_PERIOD_S - running_s)
            replica.wake()

    thread = Thread(target=slow)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
