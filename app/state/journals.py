"""Journals as the stores keep them: what is written down, who may write, and until when.

A journal is an append-only list of entries about one answer or one conversation. At most one
worker holds its lease and extends it; anybody of its owner reads it. The entries are opaque here.

    create ──▶ leased ──▶ leased ──▶ …                   extend: more entries, a longer lease
                  │ given back, or run out
                  ▼
                free ──▶ leased, with a higher number     take: another worker goes on
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Terms:
    """How long things last, in seconds.

    Attributes:
        lease_s: a lease that is not extended for so long has run out.
        keep_s: a journal nobody extends for so long is forgotten.
    """

    lease_s: float
    keep_s: float


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to extend a journal, until a lease with a higher number is given."""

    journal_id: str
    number: int


@dataclass(frozen=True, slots=True)
class Extension:
    """Entries to add. Sending one twice adds them once, for `start` tells where they belong.

    Attributes:
        start: number of the first of `entries`; those that are stored already are passed over.
        entries: may be empty, to extend the lease only.
        is_last: gives the lease back.
    """

    lease: Lease
    start: int
    entries: tuple[bytes, ...]
    is_last: bool = False


class Holding(Enum):
    """Whether a lease counts."""

    HELD = auto()
    LOST = auto()  # somebody else has one with a higher number
    DELETED = auto()  # its owner has had it deleted, within the last minute
    GONE = auto()  # there is no such journal: the store has lost it


@dataclass(frozen=True, slots=True)
class ExtensionOutcome:
    """What became of an extension.

    Attributes:
        holding: unless it is `HELD`, nothing was added.
        num_entries: in the journal now. Fewer than expected if the store has forgotten some.
    """

    holding: Holding
    num_entries: int = 0


@dataclass(frozen=True, slots=True)
class JournalPart:
    """The end of a journal, from some number on; `is_leased` tells whether somebody goes on."""

    entries: tuple[bytes, ...]
    is_leased: bool


class JournalStore(Protocol):
    """Keeps journals until they expire; every call is atomic.

    Every method may raise `StateUnavailableError`. To anyone but its owner a journal looks as if
    it did not exist.
    """

    @property
    def is_shared(self) -> bool:
        """Whether other processes read it; if not, a journal is wanted once its run has ended."""

    async def create(
        self,
        journal_id: str,
        *,
        owner: str,
        entries: Sequence[bytes],
        terms: Terms,
        number: int = 1,
    ) -> Lease:
        """Keep a new journal of one entry or more, and lease it.

        Args:
            number: of the lease. Whoever puts a journal there again that the store has lost takes
                one that no other worker has had.

        Raises:
            JournalExistsError: the id is taken; nothing has changed.
        """

    async def extend(
        self, extensions: Sequence[Extension], *, terms: Terms
    ) -> Sequence[ExtensionOutcome]:
        """Extend any number of journals in one call; each has its outcome, in the order given.

        The work grows with the new entries, not with the journals.
        """

    async def read(self, journal_id: str, *, owner: str, start: int) -> JournalPart:
        """Return the entries from number `start` on.

        Raises:
            JournalNotFoundError: gone, or owned by somebody else.
        """

    async def take(self, journal_id: str, *, owner: str, terms: Terms) -> Lease:
        """Lease a journal that nobody has leased.

        Raises:
            JournalNotFoundError: gone, or owned by somebody else.
            JournalLeasedError: somebody has.
        """

    async def delete(self, journal_id: str, *, owner: str) -> None:
        """Forget the journal, whoever writes it and will learn of it; or do nothing."""

    async def count(self) -> int:
        """Return how many journals are kept, for a metric; may cost O(journals)."""
