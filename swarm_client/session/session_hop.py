"""What one hop of a session holds, and how long it took. Pure; time is an argument."""

from dataclasses import dataclass, field

from torch import Tensor

from swarm_client.routing.latencies import HopLatencies
from swarm_client.session.history import History
from swarm_client.session.hop_session import HopOutput, HopSession, StepInputs
from swarm_client.session.timings import HopTiming
from swarm_protocol.identifiers import BlockRange


@dataclass(slots=True, eq=False)
class SessionHop:
    """One hop: its server's session, and what that has been sent.

    Attributes:
        blocks: those that its server runs.
        latencies: of the hop in all sessions.
        is_usable: the session holds what `history` says; otherwise it must be replaced.
    """

    session: HopSession
    latencies: HopLatencies
    blocks: BlockRange = field(init=False)
    history: History = field(default_factory=History)
    is_usable: bool = True
    took_ms: float = 0.0
    queue_ms: float | None = None
    compute_ms: float | None = None

    def __post_init__(self) -> None:
        self.blocks = self.session.hop.blocks

    def inputs(self, hidden: Tensor, step: StepInputs, first_block: int) -> StepInputs:
        """Return its part of a step that begins at `first_block` and has come to it as `hidden`."""
        if step.prompts is None:
            return step if hidden is step.hidden else StepInputs(hidden, None, step.hypo_ids)
        start, end = self.blocks.start - first_block, self.blocks.end - first_block
        return StepInputs(hidden, step.prompts[start:end], step.hypo_ids)

    def step_finished(
        self, inputs: StepInputs, output: HopOutput, took_s: float, now: float
    ) -> None:
        """Its server has run a step, or a chunk of it."""
        self.history.append(inputs)
        self.took_ms += took_s * 1e3
        _, queue_ms, compute_ms = output
        server_s = None
        if queue_ms is not None:
            self.queue_ms = (self.queue_ms or 0.0) + queue_ms
        if compute_ms is not None:
            self.compute_ms = (self.compute_ms or 0.0) + compute_ms
            server_s = (compute_ms + (queue_ms or 0.0)) / 1e3
        self.latencies.record(inputs.size, took_s, server_s=server_s, now=now)

    def timing(self) -> HopTiming:
        """Return the times since `begin_step`."""
        return HopTiming(
            self.session.hop.peer, self.blocks, self.took_ms, self.queue_ms, self.compute_ms
        )

    def begin_step(self) -> None:
        """Times count from here."""
        self.took_ms, self.queue_ms, self.compute_ms = 0.0, None, None
