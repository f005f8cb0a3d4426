"""The pages of a session: one sequence per row, all of one length.

A session may have fewer tokens in its pages than it has made: then those are computed again.
"""

from collections.abc import Sequence

from swarm_server.kv.memory import KVMemory
from swarm_server.kv.pages import PageCopy, PageId
from swarm_server.kv.sequence_kv import SequenceKV, count_reclaimable


class SessionPages:
    """Rows of a session and their pages; the first `num_fixed` tokens are never given up.

    Those come from the prefix cache: nobody here could compute them again. `length` counts the
    tokens of each row that are in pages. `tables` has, for each row, the pages of each layout
    group; they are there for reading, until the next call.
    """

    num_rows: int
    length: int
    _num_fitting: int  # tokens for which last pages have room that nobody else holds
    tables: Sequence[Sequence[Sequence[int]]]

    def __init__(self, memory: KVMemory, num_rows: int) -> None:
        self.num_fixed = 0
        self._memory = memory
        self.page_size = memory.layout.page_size
        self._has_windows = memory.layout.has_windows
        self._set_rows([SequenceKV(memory) for _ in range(num_rows)])
        self._hashes: list[bytes] = []
        self._num_kept = 0  # of the hashes, those whose pages the prefix cache has had

    @property
    def pages(self) -> list[PageId]:
        """All pages, each as often as a row holds it."""
        return [page for row in self._rows for page in row.pages]

    def num_needed(self, num_tokens: int) -> int:
        """Return how many pages `append` takes at most."""
        if num_tokens <= self._num_fitting:
            return 0
        return sum(row.num_needed(num_tokens) for row in self._rows)

    def num_reclaimable(self) -> int:
        """Return how many pages `preempt` makes available."""
        released = (page for row in self._rows for page in row.pages_after(self.num_fixed))
        return count_reclaimable(self._memory, released)

    def append(self, num_tokens: int) -> Sequence[PageCopy]:
        """Make room for the next tokens of each row; all or nothing.

        Returns:
            Copies that the storage must perform first, in this order.

        Raises:
            PagesExhaustedError: too few pages are available; nothing has changed.
        """
        if num_tokens <= self._num_fitting:
            self._num_fitting -= num_tokens
            self.length += num_tokens
            for table in self._all_tables:
                table.length += num_tokens
            return ()
        self._memory.require(self.num_needed(num_tokens))
        copies = [copy for row in self._rows for copy in row.append(num_tokens)]
        self.length += num_tokens
        self._num_fitting = -self.length % self.page_size
        return copies

    def truncate(self, length: int) -> None:
        """Forget all from `length` on; all is forgotten where a window's pages are gone."""
        if length < self.length:
            self._truncate_rows(length)
        del self._hashes[length // self.page_size :]
        self._num_kept = min(self._num_kept, len(self._hashes))
        self.num_fixed = min(self.num_fixed, length)
        if not all(row.can_continue for row in self._rows):
            self.preempt()

    def reorder(self, row_indexes: Sequence[int]) -> None:
        """Let row i continue what row `row_indexes[i]` has been; their number may change."""
        forks = [self._rows[index].fork() for index in row_indexes]
        for row in self._rows:
            row.release()
        self._set_rows(forks)
        if len(forks) > 1:
            self.forget_prefix()

    def preempt(self) -> None:
        """Give up all pages that can be filled again."""
        self._truncate_rows(min(self.num_fixed, self.length))

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
        self.num_fixed = self.length = self._rows[0].match_prefix(hashes)
        self._hashes = list(hashes)
        self._num_kept = self.num_fixed // self.page_size
        return self.num_fixed

    def forget_prefix(self) -> None:
        """Keep no more pages for others: what follows does not come from tokens alone."""
        self._hashes = self._hashes[: self._num_kept]

    def settle(self) -> None:
        """Take note that all tokens are written: keep prefixes, free what no window sees."""
        if self._num_kept < len(self._hashes):
            self._keep_prefixes()
        # With fixed tokens, rolling back could ask for what nobody can compute.
        if self._has_windows and self.num_fixed == 0:
            for row in self._rows:
                row.free_behind_window()

    def _keep_prefixes(self) -> None:
        while self._num_kept < min(len(self._hashes), self.length // self.page_size):
            self._rows[0].keep_prefix(self._hashes[self._num_kept], self._num_kept)
            self._num_kept += 1

    def _set_rows(self, rows: list[SequenceKV]) -> None:
        self._rows, self.num_rows, self.length = rows, len(rows), rows[0].length
        self._all_tables = [table for row in rows for table in row.tables]
        self.tables = [[table.pages for table in row.tables] for row in rows]
        self._num_fitting = 0

    def _truncate_rows(self, length: int) -> None:
        for row in self._rows:
            row.truncate(length)
        self.length = length
        self._num_fitting = 0
