"""What the scheduler is told, and what it answers.

Tickets and slices are tuples, because every batch has many and each has to be cheap.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from swarm_protocol.identifiers import BlockRange

CostClass: TypeAlias = Literal["decode", "prefill"]


class Ticket(NamedTuple):
    """One step of a session that waits to be computed: `num_tokens` of each of `num_rows`.

    Smaller ticket ids came earlier, and so did sessions of smaller ids. A `decode` is never cut; a
    `prefill` may be.
    """

    ticket_id: int
    session_id: int
    tenant: str
    blocks: BlockRange
    num_rows: int
    num_tokens: int
    cost_class: CostClass


class Slice(NamedTuple):
    """Tokens [start, end) of each row of a ticket."""

    ticket_id: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """What to compute next, all through the same blocks.

    Sessions in `preempted` give their pages back first; their tickets are gone, to be added again
    with what must be computed anew. Tickets in `blocked` had a turn, but there were no pages.
    """

    slices: tuple[Slice, ...] = ()
    preempted: tuple[int, ...] = ()
    blocked: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How large a batch may be; tokens are counted over all rows.

    `chunk_tokens` is all of the prefill that decodes ever wait for, and a quarter of it more where
    that ends a prompt.
    """

    max_batch_tokens: int
    chunk_tokens: int
    max_rows: int
