"""What all workers of a gateway share besides requests: a leader, its findings, and the offer.

At most one worker leads at a time. Its *term* has a number that grows with each new leader, and
what an earlier one publishes afterwards is refused. Names and values are opaque here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

LEASE_S: Final = 5.0
"""A leader that has not looked for so long is one no more."""

FINDINGS_S: Final = 120.0
OFFER_S: Final = 600.0
"""How long changes of the offer are kept after the last worker has looked."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a leader has published under some name, and how old that is by the store's clock."""

    value: bytes
    age_s: float


@dataclass(frozen=True, slots=True)
class BoardView:
    """The board at one moment.

    Attributes:
        term: number of our own term while we lead; None while another one does.
        offer: what was written by `change_offer`, by name.
    """

    term: int | None
    findings: Mapping[str, Finding] = field(default_factory=dict)
    offer: Mapping[str, bytes] = field(default_factory=dict)


class WorkerBoard(Protocol):
    """Every call is atomic, and may raise `StateUnavailableError`."""

    async def look(self, worker_id: str) -> BoardView:
        """Return what is there; lead if nobody does, or go on leading for `LEASE_S`."""

    async def publish(self, term: int, findings: Mapping[str, bytes]) -> bool:
        """Put findings there for `FINDINGS_S`; tell whether the term was still ours."""

    async def change_offer(self, name: str, change: bytes) -> None:
        """Write a change of the offer, which replaces an earlier one of this name."""

    async def resign(self, worker_id: str) -> None:
        """End our term, if it is ours, so that another worker leads at once."""
