"""Pages kept after the end of a sequence, for others that begin with the same tokens.

A key is the hash of a prefix of whole pages, chained: key k covers tokens [0, (k + 1) * page_size).
Its value is the page of the last `page_size` of them, in every layout group. Who may share what is
up to whoever makes the hashes.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from swarm_server.kv.page_pool import PagePool
from swarm_server.kv.pages import PageId


@dataclass(slots=True)
class _Entry:
    pages: tuple[PageId, ...]
    num_held: int  # of its pages, how many somebody else holds


class PrefixCache:
    """Holds each of its pages once. Told by `count_changed` what others hold."""

    def __init__(self, pool: PagePool) -> None:
        self._pool = pool
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()  # least recently used first
        self._owners: dict[PageId, _Entry] = {}
        self._num_idle = 0

    @property
    def num_evictable(self) -> int:
        """Pages of entries that nobody else holds any page of."""
        return self._num_idle

    def holds(self, page: PageId) -> bool:
        """Tell whether a page is kept here."""
        return page in self._owners

    def pages(self) -> set[PageId]:
        """Return all pages that are kept here."""
        return set(self._owners)

    def match(self, hashes: Sequence[bytes]) -> list[tuple[PageId, ...]]:
        """Return the pages of the longest known prefix, one tuple over groups per page of tokens.

        The caller shares them at once; they are used most recently now.
        """
        found = []
        for key in hashes:
            entry = self._entries.get(key)
            if entry is None:
                break
            found.append(entry.pages)
        for key in reversed(hashes[: len(found)]):  # so that ends are evicted before beginnings
            self._entries.move_to_end(key)
        return found

    def insert(self, key: bytes, pages: Sequence[PageId]) -> None:
        """Keep the pages of a prefix, which its sequence holds; a known key keeps what it has."""
        if key in self._entries or any(page in self._owners for page in pages):
            return
        entry = self._entries[key] = _Entry(tuple(pages), len(pages))
        self._pool.share(pages)
        for page in pages:
            self._owners[page] = entry

    def evict(self, count: int) -> int:
        """Free at least `count` pages, or all that can be; return how many are."""
        evicted, num_freed = list[bytes](), 0
        for key, entry in self._entries.items():
            if num_freed >= count:
                break
            if entry.num_held == 0:
                num_freed += len(entry.pages)
                evicted.append(key)
        for key in evicted:
            self._drop(key)
        return num_freed

    def count_changed(self, page: PageId, by: int) -> None:
        """Take note that somebody else holds a page now (`by` 1), or no longer does (-1)."""
        entry = self._owners.get(page)
        if entry is None:
            return
        num_others = self._pool.count(page) - 1
        if num_others == 0 or (num_others == 1 and by > 0):  # it has become idle, or was
            self._num_idle -= self._idle_pages(entry)
            entry.num_held += by
            self._num_idle += self._idle_pages(entry)

    def check_integrity(self) -> None:
        """Assert that the counts are right."""
        for entry in self._entries.values():
            held = [page for page in entry.pages if self._pool.count(page) > 1]
            assert len(held) == entry.num_held
        idle = sum(self._idle_pages(entry) for entry in self._entries.values())
        assert idle == self._num_idle
        assert len(self._owners) == sum(len(entry.pages) for entry in self._entries.values())

    def _idle_pages(self, entry: _Entry) -> int:
        return len(entry.pages) if entry.num_held == 0 else 0

    def _drop(self, key: bytes) -> None:
        entry = self._entries.pop(key)
        self._num_idle -= self._idle_pages(entry)
        for page in entry.pages:
            del self._owners[page]
        self._pool.release(entry.pages)
