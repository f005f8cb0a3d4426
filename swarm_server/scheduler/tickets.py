"""What the scheduler is told, and what it answers."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from swarm_protocol.identifiers import BlockRange


@dataclass(slots=True, eq=False)
class Ticket:
    """One step of a session that waits to be computed: `num_left` tokens of each of `num_rows`.

    Smaller ticket ids came earlier, and so did sessions of smaller ids. A prefill may be cut;
    other steps, decodes, never are. Of each row a batch computes `num_taken` tokens, which the
    scheduler sets; 0 while the ticket waits.
    """

    ticket_id: int
    session_id: int
    tenant: str
    blocks: BlockRange
    num_rows: int
    num_left: int
    is_prefill: bool
    num_taken: int = field(default=0, init=False)


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """What to compute next, all through the same blocks: what `tickets` say that is taken of them.

    Sessions in `preempted` give their pages back first; their tickets are gone, to be added again
    with what must be computed anew. Tickets in `blocked` had a turn, but there were no pages.
    """

    tickets: Sequence[Ticket] = ()
    preempted: Sequence[int] = ()
    blocked: Sequence[Ticket] = ()


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How large a batch may be; tokens are counted over all rows.

    `chunk_tokens` is all of the prefill that decodes ever wait for, and a quarter of it more where
    that ends a prompt.
    """

    max_batch_tokens: int
    chunk_tokens: int
    max_rows: int
