"""The pages of one sequence in all layout groups: the verbs of `PageTable`, on all at once."""

from collections import Counter
from collections.abc import Iterable, Sequence

from swarm_server.kv.memory import KVMemory
from swarm_server.kv.page_table import PageTable
from swarm_server.kv.pages import HOLE, PageCopy, PageId


class SequenceKV:
    """A sequence's KV cache: one page table per group, all of one length."""

    def __init__(self, memory: KVMemory) -> None:
        """Make an empty one."""
        layout = memory.layout
        self._memory = memory
        self.tables = tuple(
            PageTable(memory, layout.page_size, layout.window_of(group))
            for group in range(layout.num_groups)
        )

    @property
    def length(self) -> int:
        """Tokens in the KV cache."""
        return self.tables[0].length

    @property
    def can_continue(self) -> bool:
        """Whether all that the next token looks at is here."""
        return all(table.can_continue for table in self.tables)

    @property
    def pages(self) -> list[PageId]:
        """All pages that it holds, group after group."""
        return self.pages_after(0)

    def pages_after(self, length: int) -> list[PageId]:
        """Return the pages that truncating to `length` would release."""
        first = -(-length // self._memory.layout.page_size)
        return [page for table in self.tables for page in table.pages[first:] if page != HOLE]

    def num_needed(self, num_tokens: int) -> int:
        """Return how many pages `append` would take."""
        return sum(table.num_needed(num_tokens) for table in self.tables)

    def append(self, num_tokens: int) -> list[PageCopy]:
        """Make room for the next tokens in every group; all or nothing.

        Returns:
            Copies that the storage must perform first, in this order.

        Raises:
            PagesExhaustedError: too few pages are available; nothing has changed.
        """
        self._memory.require(self.num_needed(num_tokens))
        return [copy for table in self.tables for copy in table.append(num_tokens)]

    def match_prefix(self, hashes: Sequence[bytes]) -> int:
        """Begin an empty sequence with what the prefix cache has; return the number of tokens."""
        found = self._memory.match_prefix(hashes)
        for group, table in enumerate(self.tables):
            table.adopt([pages[group] for pages in found])
        return self.length

    def keep_prefix(self, key: bytes, page_index: int) -> None:
        """Give one page of each group, all full, to the prefix cache; not if one is gone."""
        pages = [table.pages[page_index] for table in self.tables]
        if HOLE not in pages:
            self._memory.keep_prefix(key, pages)

    def truncate(self, length: int) -> None:
        """Forget all from `length` on; 0 <= length <= the present one."""
        for table in self.tables:
            table.truncate(length)

    def fork(self) -> "SequenceKV":
        """Return a sequence of the same tokens, which goes its own way from here on."""
        other = SequenceKV(self._memory)
        other.tables = tuple(table.fork() for table in self.tables)
        return other

    def free_behind_window(self) -> None:
        """Release pages that no later token looks at."""
        for table in self.tables:
            table.free_behind_window()

    def release(self) -> None:
        """Give every page back; the sequence is empty."""
        self.truncate(0)


def count_reclaimable(memory: KVMemory, pages: Iterable[PageId]) -> int:
    """Return how many pages are available again when holders release all these.

    A page comes as often as it would be released.
    """
    return sum(
        memory.count(page) - memory.is_cached(page) == count
        for page, count in Counter(pages).items()
    )
