"""The KV memory of a server: its pages, and those that the prefix cache keeps until needed."""

from collections import Counter
from collections.abc import Iterable, Sequence

from swarm_server.errors import PagesExhaustedError
from swarm_server.kv.layout import KVLayout
from swarm_server.kv.page_pool import PagePool
from swarm_server.kv.pages import PageId
from swarm_server.kv.prefix_cache import PrefixCache


class KVMemory:
    """A `PageSource` that gives the prefix cache's idle pages away before it refuses."""

    def __init__(self, num_pages: int, layout: KVLayout) -> None:
        self.layout = layout
        self.num_pages = num_pages
        self._pool = PagePool(num_pages)
        self._prefixes = PrefixCache(self._pool)

    @property
    def num_available(self) -> int:
        """Pages that are free, or that the prefix cache would give away."""
        return self._pool.num_free + self._prefixes.num_evictable

    @property
    def num_tokens_available(self) -> int:
        """Tokens of one sequence for which there are pages in every group."""
        return self.num_available // self.layout.num_groups * self.layout.page_size

    @property
    def num_slots_touched(self) -> int:
        """Slots, places of a token in one block, whose memory was ever written."""
        return self._pool.num_touched * self.layout.page_size * self.layout.group_size

    def require(self, count: int) -> None:
        """Return when so many pages are available.

        Raises:
            PagesExhaustedError: they are not.
        """
        if count > self.num_available:
            raise PagesExhaustedError(count, self.num_available)

    def allocate(self, count: int) -> list[PageId]:
        """Return pages; see `PageSource`.

        Raises:
            PagesExhaustedError: too few are available; nothing has been evicted.
        """
        self.require(count)
        missing = count - self._pool.num_free
        if missing > 0:
            self._prefixes.evict(missing)
        return self._pool.allocate(count)

    def share(self, pages: Iterable[PageId]) -> None:
        """Add a holder to each page."""
        for page in pages:
            self._pool.share([page])
            self._prefixes.count_changed(page, by=1)

    def release(self, pages: Iterable[PageId]) -> None:
        """Take a holder from each page."""
        for page in pages:
            self._pool.release([page])
            self._prefixes.count_changed(page, by=-1)

    def count(self, page: PageId) -> int:
        """Return how many hold a page, the prefix cache included."""
        return self._pool.count(page)

    def is_cached(self, page: PageId) -> bool:
        """Tell whether the prefix cache holds a page."""
        return self._prefixes.holds(page)

    def match_prefix(self, hashes: Sequence[bytes]) -> list[tuple[PageId, ...]]:
        """Return the pages of the longest known prefix, already shared; see `PrefixCache`."""
        found = self._prefixes.match(hashes)
        for pages in found:
            self.share(pages)
        return found

    def keep_prefix(self, key: bytes, pages: Sequence[PageId]) -> None:
        """Keep pages that a sequence holds for others with the same prefix."""
        self._prefixes.insert(key, pages)

    def check_integrity(self, held: Iterable[PageId]) -> None:
        """Assert that exactly `held`, a page as often as it has holders, and the cache's are used.

        Prefixes apart, that is: the pages of all sequences.
        """
        self._pool.check_integrity()
        self._prefixes.check_integrity()
        for page, count in Counter(held).items():
            assert self.count(page) == count + self.is_cached(page), f"page {page} is miscounted"
        num_used = len(set(held) | self._prefixes.pages())
        assert num_used + self._pool.num_free == self.num_pages, "a page has leaked"
