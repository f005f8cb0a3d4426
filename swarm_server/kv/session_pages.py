"""The pages of a session: one sequence per row, all of one length.

A session may have fewer tokens in its pages than it has made: then those are computed again.
"""

from collections.abc import Sequence

from swarm_server.kv.memory import KVMemory
from swarm_server.kv.pages import PageCopy, PageId
from swarm_server.kv.sequence_kv import SequenceKV, count_reclaimable


class SessionPages:
    """Rows of a session and their pages; the first `num_fixed` tokens are never given up.

    Those come from the prefix cache: nobody here could compute them again.
    """

    def __init__(self, memory: KVMemory, num_rows: int) -> None:
        self.num_fixed = 0
        self._memory = memory
        self._rows = [SequenceKV(memory) for _ in range(num_rows)]
        self._hashes: list[bytes] = []
        self._num_kept = 0  # of the hashes, those whose pages the prefix cache has had

    @property
    def num_rows(self) -> int:
        """How many sequences there are."""
        return len(self._rows)

    @property
    def length(self) -> int:
        """Tokens of each row that are in pages."""
        return self._rows[0].length

    @property
    def pages(self) -> list[PageId]:
        """All pages, each as often as a row holds it."""
        return [page for row in self._rows for page in row.pages]

    def tables(self) -> list[list[Sequence[int]]]:
        """Return, for each row, the page table of each layout group; valid until the next call."""
        return [[table.pages for table in row.tables] for row in self._rows]

    def num_needed(self, num_tokens: int) -> int:
        """Return how many pages `append` takes at most."""
        return sum(row.num_needed(num_tokens) for row in self._rows)

    def num_reclaimable(self) -> int:
        """Return how many pages `preempt` makes available."""
        released = (page for row in self._rows for page in row.pages_after(self.num_fixed))
        return count_reclaimable(self._memory, released)

    def append(self, num_tokens: int) -> list[PageCopy]:
        """Make room for the next tokens of each row; all or nothing.

        Returns:
            Copies that the storage must perform first, in this order.

        Raises:
            PagesExhaustedError: too few pages are available; nothing has changed.
        """
        self._memory.require(self.num_needed(num_tokens))
        return [copy for row in self._rows for copy in row.append(num_tokens)]

    def truncate(self, length: int) -> None:
        """Forget all from `length` on; all is forgotten where a window's pages are gone."""
        if length < self.length:
            for row in self._rows:
                row.truncate(length)
        del self._hashes[length // self._memory.layout.page_size :]
        self._num_kept = min(self._num_kept, len(self._hashes))
        self.num_fixed = min(self.num_fixed, length)
        if not all(row.can_continue for row in self._rows):
            self.preempt()

    def reorder(self, row_indexes: Sequence[int]) -> None:
        """Let row i continue what row `row_indexes[i]` has been; their number may change."""
        forks = [self._rows[index].fork() for index in row_indexes]
        for row in self._rows:
            row.release()
        self._rows = forks
        if len(forks) > 1:
            self.forget_prefix()

    def preempt(self) -> None:
        """Give up all pages that can be filled again."""
        for row in self._rows:
            row.truncate(min(self.num_fixed, row.length))

    def release(self) -> None:
        """Give every page back."""
        self.num_fixed = 0
        self.preempt()

    def match_prefix(self, hashes: Sequence[bytes]) -> int:
        """Begin with what the prefix cache has; return the number of tokens.

        Later `settle` keeps the pages of those that it lacks. Nothing is known for several rows.
        """
        if len(self._rows) != 1:
            return 0
        self.num_fixed = self._rows[0].match_prefix(hashes)
        self._hashes = list(hashes)
        self._num_kept = self.num_fixed // self._memory.layout.page_size
        return self.num_fixed

    def forget_prefix(self) -> None:
        """Keep no more pages for others: what follows does not come from tokens alone."""
        self._hashes = self._hashes[: self._num_kept]

    def settle(self) -> None:
        """Take note that all tokens are written: keep prefixes, free what no window sees."""
        (first, *_), page_size = self._rows, self._memory.layout.page_size
        while self._num_kept < min(len(self._hashes), self.length // page_size):
            first.keep_prefix(self._hashes[self._num_kept], self._num_kept)
            self._num_kept += 1
        if self.num_fixed == 0:  # else rolling back could ask for what nobody can compute
            for row in self._rows:
                row.free_behind_window()
