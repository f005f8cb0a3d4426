"""Which pages hold the tokens of one sequence in one layout group.

position     0 … 63   64 … 127   128 … 191        page_size 64, length 150
pages        [  7   ,   HOLE   ,     2    ]       page 2 is partly filled
"""

from typing import Self

from swarm_server.kv.pages import HOLE, PageCopy, PageId, PageSource


class PageTable:
    """Grows by `append`, shrinks by `truncate`, and shares pages with its forks.

    `pages[position // page_size]` is the page of a position, or `HOLE`. A shared page is never
    written: the append that would do so takes a copy of it. `pages` stays one list for ever.
    Whoever knows that tokens fit the last page, and that nobody else holds it, may add them to
    `length` instead.
    """

    def __init__(self, source: PageSource, page_size: int, window: int | None = None) -> None:
        """Make an empty table.

        Args:
            source: of pages.
            page_size: tokens of a page.
            window: a token sees itself and the `window - 1` before it; None means all before.
        """
        self.length = 0
        self.pages: list[PageId] = []
        self._source = source
        self._page_size = page_size
        self._window = window

    @property
    def can_continue(self) -> bool:
        """Whether all that the next token looks at is here; rolling back far may lose it."""
        return HOLE not in self.pages[self._first_seen // self._page_size :]

    def num_needed(self, num_tokens: int) -> int:
        """Return how many pages `append` would take."""
        if num_tokens == 0:
            return 0
        return self._num_pages(self.length + num_tokens) - len(self.pages) + self._needs_copy

    def append(self, num_tokens: int) -> list[PageCopy]:
        """Make room for the next tokens; all or nothing.

        Returns:
            Copies that the storage must perform first: none or one.

        Raises:
            PagesExhaustedError: too few pages are available; nothing has changed.
        """
        needs_copy = num_tokens > 0 and self._needs_copy
        new = self._source.allocate(self.num_needed(num_tokens))
        copies = []
        if needs_copy:
            copies.append(PageCopy(self.pages[-1], new.pop()))
            self._source.release([self.pages[-1]])
            self.pages[-1] = copies[0].target
        self.pages += new
        self.length += num_tokens
        return copies

    def adopt(self, pages: list[PageId]) -> None:
        """Begin an empty table with full pages that are already held for it."""
        assert not self.pages
        self.pages += pages
        self.length = len(pages) * self._page_size

    def truncate(self, length: int) -> None:
        """Forget all from `length` on; 0 <= length <= the present one."""
        assert 0 <= length <= self.length
        num_kept = self._num_pages(length)
        self._source.release(page for page in self.pages[num_kept:] if page != HOLE)
        del self.pages[num_kept:]
        self.length = length

    def fork(self) -> Self:
        """Return a table of the same tokens, which goes its own way from here on."""
        other = type(self)(self._source, self._page_size, self._window)
        self._source.share(page for page in self.pages if page != HOLE)
        other.pages, other.length = list(self.pages), self.length
        return other

    def free_behind_window(self) -> None:
        """Release pages that no later token looks at.

        One more is kept, so that rolling back by up to a page finds what it needs.
        """
        end = self._first_seen // self._page_size - 1
        for index in reversed(range(end)):
            if self.pages[index] == HOLE:  # and so are all before it
                break
            self._source.release([self.pages[index]])
            self.pages[index] = HOLE

    def release(self) -> None:
        """Give every page back; the table is empty."""
        self.truncate(0)

    @property
    def _first_seen(self) -> int:
        """The first position that the next token looks at."""
        return 0 if self._window is None else max(0, self.length + 1 - self._window)

    @property
    def _needs_copy(self) -> bool:
        """Whether the next token falls into a page that others hold as well."""
        is_partly_filled = self.length % self._page_size != 0
        return is_partly_filled and self._source.count(self.pages[-1]) > 1

    def _num_pages(self, length: int) -> int:
        return -(-length // self._page_size)
