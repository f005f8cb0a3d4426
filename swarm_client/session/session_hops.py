"""What each hop of a session holds, and what must be sent to whom so that all go on together.

```
blocks:    0        4        8        12
hops:      [ a, 9 tokens ][ b, 9 ][ c, 9 ]       b is lost
           [ a, 9 ][ d, 0 ][ e, 0 ][ c, 9 ]      d and e take its place: b's 9 inputs are run from
           [ a, 9 ][ d, 9 ][ e, 9 ][ c, 9 ]      block 4 to 8, and the next token through all
```
Pure: decides, but knows neither servers nor time. Sessions are only handed around.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from swarm_client.errors import RollbackUnsupportedError
from swarm_client.session.history import History, follow
from swarm_client.session.hop_session import HopOutput, HopSession, StepInputs
from swarm_client.session.timings import HopTiming, StepTimings
from swarm_protocol.identifiers import BlockRange


@dataclass(slots=True, eq=False)
class SessionHop:
    """One hop: its server's session, and what that has been sent.

    Attributes:
        blocks: those that its server runs.
        is_usable: the session holds what `history` says; otherwise it must be replaced.
    """

    session: HopSession
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

    def step_finished(self, inputs: StepInputs, output: HopOutput, took_ms: float) -> None:
        """Its server has run a step, or a chunk of it."""
        self.history.append(inputs)
        self.took_ms += took_ms
        if output.queue_ms is not None:
            self.queue_ms = (self.queue_ms or 0.0) + output.queue_ms
        if output.compute_ms is not None:
            self.compute_ms = (self.compute_ms or 0.0) + output.compute_ms

    def timing(self) -> HopTiming:
        """Return the times since `begin_step`."""
        return HopTiming(
            self.session.hop.peer, self.blocks, self.took_ms, self.queue_ms, self.compute_ms
        )

    def begin_step(self) -> None:
        """Times count from here, and a failed step is undone to here."""
        self.history.checkpoint()
        self.took_ms, self.queue_ms, self.compute_ms = 0.0, None, None


class SessionHops:
    """The hops of a session, over all of its blocks at any time.

    A step begins, and then either all of it has happened or nothing. Rows and positions are the
    caller's; those of the KV caches may lag behind until the next step.

    Attributes:
        position: tokens that the next ones follow.
    """

    def __init__(self, sessions: Sequence[HopSession]) -> None:
        self.position = 0
        # by first block, in route order
        self._hops = {session.hop.blocks.start: SessionHop(session) for session in sessions}
        self._before = self._hops  # at the beginning of the step; replaced, never changed
        self._num_cached_rows: int | None = None
        self._rows: Tensor | None = None  # of the KV caches, that the caller's rows continue

    def __iter__(self) -> Iterator[SessionHop]:
        """Iterate over the hops in route order."""
        return iter(self._hops.values())

    def __len__(self) -> int:
        """Return the number of hops."""
        return len(self._hops)

    def count(self, blocks: BlockRange) -> int:
        """Return how many hops begin within some blocks."""
        return sum(blocks.start <= start < blocks.end for start in self._hops)

    def __getitem__(self, start: int) -> SessionHop:
        """Return the hop whose first block it is."""
        return self._hops[start]

    @property
    def num_rows(self) -> int | None:
        """Rows of the next step; None while any number will do."""
        if self.position == 0:
            return None
        return self._num_cached_rows if self._rows is None else len(self._rows)

    @property
    def is_complete(self) -> bool:
        """Whether every hop could be replaced."""
        return all(hop.history.is_complete for hop in self)

    def skip(self, num_tokens: int) -> None:
        """The KV caches hold the first tokens of one row already, whose inputs nobody knows."""
        if num_tokens:
            for hop in self:
                hop.history.skip(num_tokens)
            self.position = num_tokens
            self._num_cached_rows = 1

    def roll_back(self, position: int) -> None:
        """Forget the tokens from `position` on; see `InferenceSession.roll_back`."""
        if not 0 <= position <= self.position:
            raise ValueError(f"can roll back to 0..{self.position}, got {position}")
        if position == self.position:
            return
        stuck = [hop for hop in self if not hop.session.can_roll_back]
        if position and not all(hop.history.is_complete for hop in stuck):
            raise RollbackUnsupportedError
        for hop in stuck:
            hop.is_usable = False
        for hop in self:
            hop.history.truncate(position)
        self.position = position
        if position == 0:
            self._rows = None

    def take_rows(self, rows: Tensor) -> None:
        """Let the next step continue these rows; see `InferenceSession.take_rows`."""
        if self.num_rows is None:
            return
        if len(rows) != self._num_cached_rows and not self.is_complete:
            raise RollbackUnsupportedError
        self._rows = follow(self._rows, rows)

    def outdated(self, num_rows: int) -> list[SessionHop]:
        """Return the hops to be replaced before a step of so many rows."""
        if self._num_cached_rows in (None, num_rows):
            return [hop for hop in self if not hop.is_usable]
        return list(self)

    def rows_to_replay(self, num_rows: int) -> Tensor:
        """Return the rows of the KV caches that must be there before a step of so many rows."""
        if self._rows is None or self._num_cached_rows == num_rows:  # servers reorder as many
            return torch.arange(num_rows)
        return self._rows

    def replace(self, hop: SessionHop, sessions: Sequence[HopSession]) -> None:
        """Put sessions that hold nothing yet, over the same blocks together, in a hop's place."""
        kept = {start: other for start, other in self._hops.items() if other is not hop}
        hops = kept | {one.hop.blocks.start: SessionHop(one) for one in sessions}
        self._hops = dict(sorted(hops.items()))

    def caught_up(self, num_rows: int) -> None:
        """All KV caches are at the position, with as many rows as the next step."""
        if self._num_cached_rows != num_rows:
            self._num_cached_rows = num_rows
            self._rows = None
        if self._hops is not self._before:
            self.begin_step()

    def order(self, hypo_ids: Tensor | None) -> Tensor | None:
        """Return the row of the KV caches that each row of the next step continues."""
        return follow(self._rows, hypo_ids)

    def begin_step(self) -> None:
        """What comes now has happened with `step_finished`, or not at all."""
        self._before = self._hops
        for hop in self:
            hop.begin_step()

    def step_finished(self, num_tokens: int) -> None:
        """All of a step has happened."""
        self.position += num_tokens
        self._rows = None
        self._before = self._hops

    def step_failed(self) -> list[HopSession]:
        """Undo the step; return the sessions to abandon: all of them, those of before as well."""
        sessions = {hop.session for hops in (self._hops, self._before) for hop in hops.values()}
        self._hops = self._before
        for hop in self:
            hop.is_usable = False
            hop.history.undo()
        return list(sessions)

    def limit_history(self, max_bytes: int) -> None:
        """Forget all inputs if they are more than that together: a part would be of no use."""
        if sum([hop.history.num_bytes for hop in self]) > max_bytes:
            for hop in self:
                hop.history.forget()

    def timings(self) -> StepTimings:
        """Return the times of the step that has just finished."""
        return StepTimings(tuple([hop.timing() for hop in self]))
