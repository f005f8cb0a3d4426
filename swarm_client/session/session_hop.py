"""What one hop of a session holds, and how long it took. Pure; time is an argument."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from torch import Tensor

from swarm_client.routing.latencies import HopLatencies
from swarm_client.session.history import History
from swarm_client.session.hop_session import HopOutput, HopSession, StepInputs
from swarm_client.session.timings import HopTiming
from swarm_protocol.identifiers import BlockRange

_Times: TypeAlias = tuple[float, float | None, float | None]
"""Milliseconds from sending to the reply, thereof waiting at the server, and in its blocks."""


@dataclass(slots=True, eq=False)
class SessionHop:
    """One hop: its server's session, and what that has been sent.

    Attributes:
        blocks: those that its server runs.
        latencies: of the hop in all sessions.
        is_usable: the session holds what `history` says; otherwise it must be replaced.
        times: of what it has run of the latest step; for `timing`.
    """

    session: HopSession
    latencies: HopLatencies
    blocks: BlockRange = field(init=False)
    history: History = field(default_factory=History)
    is_usable: bool = True
    times: list[_Times] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.blocks = self.session.hop.blocks

    def inputs(self, hidden: Tensor, step: StepInputs, first_block: int) -> StepInputs:
        """Return its part of a step that begins at `first_block` and has come to it as `hidden`."""
        if step.prompts is None:
            if hidden is step.hidden:
                return step
            return StepInputs(hidden, None, step.hypo_ids, step.only_last_at)
        start, end = self.blocks.start - first_block, self.blocks.end - first_block
        return StepInputs(hidden, step.prompts[start:end], step.hypo_ids, step.only_last_at)

    def step_finished(
        self, inputs: StepInputs, output: HopOutput, took_s: float, now: float
    ) -> None:
        """Its server has run a step, or a chunk of it."""
        self.history.append(inputs)
        _, queue_ms, compute_ms = output
        self.times.append((took_s * 1e3, queue_ms, compute_ms))
        server_s = None if compute_ms is None else (compute_ms + (queue_ms or 0.0)) / 1e3
        self.latencies.record(inputs.size, took_s, server_s=server_s, now=now)

    def timing(self) -> HopTiming:
        """Return the sums of `times`, of which there are some."""
        took_ms, queue_ms, compute_ms = map(_sum_of_known, zip(*self.times, strict=True))
        return HopTiming(self.session.hop.peer, self.blocks, took_ms or 0.0, queue_ms, compute_ms)


def _sum_of_known(times_ms: Iterable[float | None]) -> float | None:
    known = [time_ms for time_ms in times_ms if time_ms is not None]
    return sum(known) if known else None
