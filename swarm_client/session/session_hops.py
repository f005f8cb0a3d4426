"""What each hop of a session holds, and what must be sent to whom so that all go on together.

```
blocks:    0        4        8        12
hops:      [ a, 9 tokens ][ b, 9 ][ c, 9 ]       b is lost
           [ a, 9 ][ d, 0 ][ e, 0 ][ c, 9 ]      d and e take its place: b's 9 inputs are run from
           [ a, 9 ][ d, 9 ][ e, 9 ][ c, 9 ]      block 4 to 8, and the next token through all
```
Pure: decides, but knows neither servers nor time. Sessions are only handed around.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from swarm_client.errors import RollbackUnsupportedError
from swarm_client.routing import Hop
from swarm_client.routing.latencies import HopLatencies
from swarm_client.session.history import History, follow
from swarm_client.session.hop_session import HopSession, StepInputs
from swarm_client.session.session_hop import SessionHop
from swarm_client.session.timings import StepTimings
from swarm_protocol.identifiers import BlockRange


class SessionHops:
    """The hops of a session, over all of its blocks at any time.

    A step begins, and then either all of it has happened or nothing. Rows and positions are the
    caller's; those of the KV caches may lag behind until the next step.

    All hops' inputs are kept until they are too many together. Then only the session's own are:
    those of its first block, from which the others' can be computed.

    Attributes:
        position: tokens that the next ones follow.
        num_spills: how often inputs were too many to keep.
    """

    def __init__(
        self,
        sessions: Sequence[HopSession],
        latencies: Callable[[Hop], HopLatencies] = lambda hop: HopLatencies(),
    ) -> None:
        """Begin with sessions that hold nothing yet.

        Args:
            sessions: in route order.
            latencies: gives those of a hop, in all sessions.
        """
        self.position = 0
        self.num_spills = 0
        self._inputs = History()  # of all steps that have happened
        self._inputs_before = self._inputs  # at the beginning of the step
        self._step: StepInputs | None = None  # that happens now
        self._latencies = latencies
        self._hops = self._new_hops(sessions)  # by first block, in route order
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
    def blocks(self) -> BlockRange:
        """All that they run."""
        first, *_, last = [*self, *self]
        return BlockRange(first.blocks.start, last.blocks.end)

    @property
    def num_rows(self) -> int | None:
        """Rows of the next step; None while any number will do."""
        if self.position == 0:
            return None
        return self._num_cached_rows if self._rows is None else len(self._rows)

    @property
    def is_complete(self) -> bool:
        """Whether every hop could be replaced."""
        return all(self.can_be_replaced(hop) for hop in self)

    def can_be_replaced(self, hop: SessionHop) -> bool:
        """Tell whether what a hop was sent is kept, or can be computed."""
        return hop.history.is_complete or self._inputs.is_complete

    @property
    def num_bytes(self) -> int:
        """Of all inputs that are kept; the first hop's are the session's own."""
        return max(self._inputs.num_bytes, sum([hop.history.num_bytes for hop in self]))

    def skip(self, num_tokens: int) -> None:
        """The KV caches hold the first tokens of one row already, whose inputs nobody knows."""
        if num_tokens:
            for hop in self:
                hop.history.skip(num_tokens)
            self._inputs.skip(num_tokens)
            self.position = num_tokens
            self._num_cached_rows = 1

    def roll_back(self, position: int) -> None:
        """Forget the tokens from `position` on; see `InferenceSession.roll_back`."""
        if not 0 <= position <= self.position:
            raise ValueError(f"can roll back to 0..{self.position}, got {position}")
        if position == self.position:
            return
        stuck = [hop for hop in self if not hop.session.can_roll_back]
        if position and not all(self.can_be_replaced(hop) for hop in stuck):
            raise RollbackUnsupportedError
        for hop in stuck:
            hop.is_usable = False
        for hop in self:
            hop.history.truncate(position)
        self._inputs.truncate(position)
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
            return [hop for hop in self._hops.values() if not hop.is_usable]
        return list(self)

    def begin_replay(self, num_rows: int) -> Tensor:
        """Return the rows of the KV caches that must be there before a step of so many rows."""
        if self._rows is None or self._num_cached_rows == num_rows:  # servers reorder as many
            return torch.arange(num_rows)
        self._inputs = self._inputs.of_rows(self._rows)
        return self._rows

    def replace(self, hop: SessionHop, sessions: Sequence[HopSession]) -> None:
        """Put sessions that hold nothing yet, over the same blocks together, in a hop's place."""
        self._put(hop, self._new_hops(sessions))

    def replace_all(self, sessions: Sequence[HopSession]) -> None:
        """Put sessions that hold nothing yet in the place of all hops."""
        self._hops = self._new_hops(sessions)

    def adopt(self, hop: SessionHop, others: "SessionHops") -> None:
        """Put others, which hold what a hop holds, in its place."""
        self._put(hop, others._hops)

    def begin_step(self) -> None:
        """What comes now has happened with `step_finished`, or not at all."""
        self._step = None
        self._before, self._inputs_before = self._hops, self._inputs
        for hop in self._hops.values():
            hop.times.clear()

    def take_step(self, inputs: StepInputs) -> StepInputs:
        """All hops are where the session is, with as many rows; return what is sent next.

        Its rows continue those of the KV caches, and the caller's those of `take_rows`.
        """
        if self._num_cached_rows != inputs.num_rows:
            self._num_cached_rows, self._rows = inputs.num_rows, None
        if self._hops is not self._before:
            self.begin_step()
        if self._rows is not None:
            order = follow(self._rows, inputs.hypo_ids)
            inputs = StepInputs(inputs.hidden, inputs.prompts, order, inputs.only_last_at)
        self._step = inputs
        return inputs

    def step_finished(self) -> None:
        """All of a step has happened."""
        assert self._step is not None
        self._inputs.append(self._step)
        self.position += self._step.num_tokens
        self._rows = None
        self._before = self._hops

    def inputs_until(self, num_tokens: int, num_rows: int) -> StepInputs | None:
        """Return what went into the first block until a hop had so many tokens; None for nothing.

        Args:
            num_tokens: of the hop, in the middle of a step or of a replay.
            num_rows: of its KV cache.
        """
        rows, step = torch.arange(num_rows), self._step
        is_in_step = step is not None and num_tokens > self.position
        if is_in_step and step is not None and step.hypo_ids is not None:
            rows = step.hypo_ids
        parts = [] if self.position == 0 else [self._inputs.inputs_of(rows)]
        if is_in_step:
            parts.append(step)
        known = [part for part in parts if part is not None]
        if not known or num_tokens == 0:
            return None
        hidden = torch.cat([part.hidden for part in known], dim=1)
        return StepInputs(hidden[:, :num_tokens], known[0].prompts)

    def step_failed(self) -> list[HopSession]:
        """Undo the step; return the sessions to abandon: all of them, those of before as well."""
        sessions = {hop.session for hops in (self._hops, self._before) for hop in hops.values()}
        self._hops, self._inputs = self._before, self._inputs_before
        for hop in self:
            hop.is_usable = False
            hop.history.undo(self.position)
        return list(sessions)

    def limit_history(self, max_bytes: int) -> None:
        """Forget inputs if they are more than that together: those of the hops first."""
        if sum([hop.history.num_bytes for hop in self._hops.values()]) > max_bytes:
            self.num_spills += 1
            for hop in self:
                hop.history.forget()
        if self._inputs.num_bytes > max_bytes:
            self._inputs.forget()

    def forget(self) -> None:
        """Let go of all inputs: nothing is replaced any more."""
        for hop in {*self._hops.values(), *self._before.values()}:
            hop.history.forget()
        self._inputs.forget()
        self._inputs_before.forget()
        self._step = None

    def _new_hops(self, sessions: Sequence[HopSession]) -> dict[int, SessionHop]:
        hops = [SessionHop(session, self._latencies(session.hop)) for session in sessions]
        return {hop.blocks.start: hop for hop in hops}

    def _put(self, hop: SessionHop, others: dict[int, SessionHop]) -> None:
        kept = {start: other for start, other in self._hops.items() if other is not hop}
        self._hops = dict(sorted((kept | others).items()))

    def timings(self) -> StepTimings:
        """Return the times of the latest step, at the hops where it has been."""
        return StepTimings(tuple([hop.timing() for hop in self if hop.times]))
