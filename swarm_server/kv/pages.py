"""What pages are to everybody: numbers, places that have none, copies, and where they come from."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NewType, Protocol

PageId = NewType("PageId", int)
"""A page: `page_size` tokens of the blocks of one layout group. Numbered from 0."""

HOLE: Final = PageId(-1)
"""Stands in a page table where a page was given back because no token looks there any more."""


@dataclass(frozen=True, slots=True)
class PageCopy:
    """Storage is to copy one page's contents to another, before anything is written to either."""

    source: PageId
    target: PageId


class PageSource(Protocol):
    """Where page tables get pages. Every page has a count of holders."""

    @property
    def num_available(self) -> int:
        """Pages that `allocate` could return now."""

    def allocate(self, count: int) -> list[PageId]:
        """Return pages with one holder each; all or nothing.

        Raises:
            PagesExhaustedError: there are fewer.
        """

    def share(self, pages: Iterable[PageId]) -> None:
        """Add a holder to each page; a page named twice gets two."""

    def release(self, pages: Iterable[PageId]) -> None:
        """Take a holder from each page; those without one may be allocated again."""

    def count(self, page: PageId) -> int:
        """Return how many hold a page."""
