"""The pages of a server and who holds them: counts, no memory, no tensors."""

from collections.abc import Iterable

from swarm_server.errors import PagesExhaustedError
from swarm_server.kv.pages import PageId


class PagePool:
    """Pages 0 … `num_pages - 1`, each free or held by a number of holders.

    Attributes:
        num_touched: pages that have ever been held; the others' memory was never written.
    """

    def __init__(self, num_pages: int) -> None:
        self.num_pages = num_pages
        self.num_touched = 0
        self._counts = [0] * num_pages
        self._free = [PageId(number) for number in reversed(range(num_pages))]

    @property
    def num_free(self) -> int:
        """Pages that nobody holds."""
        return len(self._free)

    @property
    def num_available(self) -> int:
        """The same; see `PageSource`."""
        return len(self._free)

    def allocate(self, count: int) -> list[PageId]:
        """Return free pages, the last released first; all or nothing.

        Raises:
            PagesExhaustedError: fewer are free.
        """
        if count > len(self._free):
            raise PagesExhaustedError(count, len(self._free))
        pages = [self._free.pop() for _ in range(count)]
        for page in pages:
            self._counts[page] = 1
            self.num_touched = max(self.num_touched, page + 1)  # lower ones are given out first
        return pages

    def share(self, pages: Iterable[PageId]) -> None:
        """Add a holder to each page; each has one already."""
        for page in pages:
            assert self._counts[page] > 0, f"page {page} is shared but free"
            self._counts[page] += 1

    def release(self, pages: Iterable[PageId]) -> None:
        """Take a holder from each page; one without holders is free."""
        for page in pages:
            assert self._counts[page] > 0, f"page {page} is released but free"
            self._counts[page] -= 1
            if self._counts[page] == 0:
                self._free.append(page)

    def count(self, page: PageId) -> int:
        """Return how many hold a page."""
        return self._counts[page]

    def check_integrity(self) -> None:
        """Assert that every page is either free, once, or held."""
        free = set(self._free)
        assert len(free) == len(self._free), "a page is free twice"
        for number, count in enumerate(self._counts):
            assert (count == 0) == (number in free), f"page {number} has {count} holders"
