"""What this dialect needs of the engine and of who admits sessions, as Protocols."""

from collections.abc import Callable, Sequence
from typing import Protocol

from swarm_server.engine.serving.requests import SessionRequest, StepListener, StepTensors


class ComputedSession(Protocol):
    """A session in the engine: one step at a time."""

    position: int
    """Tokens in its KV cache."""

    def begin_step(self, step: StepTensors, *, position: int, on_done: StepListener) -> None:
        """Let a step be computed; raises a SwarmError when it does not fit the session."""

    def match_prefix(self, hashes: Sequence[bytes]) -> int:
        """Begin with cached tokens; return their number."""

    def close(self, on_freed: Callable[[], None]) -> None:
        """End the session; `on_freed` is called when its pages are free."""


class SessionEngine(Protocol):
    """Where sessions are computed."""

    def open(self, request: SessionRequest) -> ComputedSession:
        """Return a new session, which has been admitted."""

    def call_afterwards(self, callback: Callable[[], None]) -> None:
        """Call back once, when all who are being told of outputs in this moment have heard."""
