"""When a server is left because it is slow. Pure; time is an argument.

Leaving costs a replay, and the other server may be no better: it must promise much, several times
in a row, and then there is rest.
"""

from dataclasses import dataclass, field

from swarm_client.routing.route import Hop
from swarm_protocol.identifiers import BlockRange


@dataclass(frozen=True, slots=True)
class SlowRule:
    """How much slower is too slow.

    Attributes:
        factor: at least so many times the time of others, > 1, ...
        margin_s: ... and so much more.
        num_in_a_row: verdicts before a hop is left.
        look_s: between two verdicts, at least.
        rest_s: for which the blocks of a hop that was left stay where they are.
    """

    factor: float = 3.0
    margin_s: float = 0.05
    num_in_a_row: int = 3
    look_s: float = 1.0
    rest_s: float = 30.0

    def is_too_slow(self, usual_s: float, elsewhere_s: float) -> bool:
        """Compare the time of a step here with that at other servers of the same blocks."""
        return usual_s > self.factor * elsewhere_s + self.margin_s


@dataclass(slots=True)
class SlowHops:
    """What one session knows of its slow hops."""

    rule: SlowRule
    _num_slow: dict[Hop, int] = field(default_factory=dict)
    _rests: dict[BlockRange, float] = field(default_factory=dict)

    def is_to_be_left(
        self, hop: Hop, usual_s: float | None, elsewhere_s: float | None, now: float
    ) -> bool:
        """Take in how long steps take here and elsewhere; what is None is not known."""
        if (
            usual_s is None
            or elsewhere_s is None
            or not self.rule.is_too_slow(usual_s, elsewhere_s)
            or self._rests_at(hop.blocks, now)
        ):
            self._num_slow.pop(hop, None)
            return False
        self._num_slow[hop] = self._num_slow.get(hop, 0) + 1
        return self._num_slow[hop] >= self.rule.num_in_a_row

    def left(self, hop: Hop, now: float) -> None:
        """The hop was left, or it was tried: its blocks rest."""
        self._num_slow.pop(hop, None)
        self._rests = {blocks: until for blocks, until in self._rests.items() if until > now}
        self._rests[hop.blocks] = now + self.rule.rest_s

    def _rests_at(self, blocks: BlockRange, now: float) -> bool:
        return any(
            rested.start < blocks.end and blocks.start < rested.end and now < until
            for rested, until in self._rests.items()
        )
