"""Page tables: what they hold, share, copy and give back."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_server.errors import PagesExhaustedError
from swarm_server.kv.page_pool import PagePool
from swarm_server.kv.page_table import PageTable
from swarm_server.kv.pages import HOLE, PageCopy, PageId

PAGE_SIZE = 4


def make_table(num_pages: int = 8, window: int | None = None) -> tuple[PagePool, PageTable]:
    pool = PagePool(num_pages)
    return pool, PageTable(pool, PAGE_SIZE, window)


def test_a_page_is_taken_only_when_the_last_is_full() -> None:
    """A decode step costs at most one page."""
    _, table = make_table()

    counts = []
    for _ in range(9):
        table.append(1)
        counts.append(len(table.pages))

    assert counts == [1, 1, 1, 1, 2, 2, 2, 2, 3]


def test_appending_is_all_or_nothing() -> None:
    """A table that gets too few pages is as before."""
    pool, table = make_table(num_pages=2)
    table.append(3)

    with pytest.raises(PagesExhaustedError, match="2 pages are needed, 1 are free"):
        table.append(7)

    assert (table.length, len(table.pages), pool.num_free) == (3, 1, 1)


def test_a_shared_page_is_copied_before_it_is_written() -> None:
    """By the first fork that appends; the last one keeps the page."""
    pool, table = make_table()
    table.append(6)
    fork = table.fork()

    (copy,) = fork.append(1)

    assert copy == PageCopy(table.pages[1], fork.pages[1])
    assert table.pages[0] == fork.pages[0]
    assert table.append(1) == []
    assert pool.num_free == 8 - 3


def test_full_shared_pages_are_not_copied() -> None:
    """Nobody writes there again."""
    _, table = make_table()
    table.append(4)
    fork = table.fork()

    assert fork.append(1) == []


def test_cutting_a_shared_page_in_the_middle_copies_it_later() -> None:
    """The other one still reads the tokens that are overwritten here."""
    _, table = make_table()
    table.append(4)
    fork = table.fork()
    fork.truncate(2)

    assert fork.append(1) == [PageCopy(table.pages[0], fork.pages[0])]


def test_truncating_gives_whole_pages_back() -> None:
    """To the middle of a page, to its start, and to nothing."""
    pool, table = make_table()
    table.append(12)

    free = []
    for length in (9, 8, 5, 0):
        table.truncate(length)
        free.append(pool.num_free)

    assert free == [5, 6, 6, 8]


def test_pages_behind_the_window_are_given_back_but_one() -> None:
    """The page before the window stays for short rollbacks."""
    pool, table = make_table(window=3)
    table.append(17)
    table.free_behind_window()

    assert [page == HOLE for page in table.pages] == [True, True, False, False, False]
    assert pool.num_free == 8 - 3


def test_a_long_rollback_behind_the_window_cannot_continue() -> None:
    """What the next token would look at is gone."""
    _, table = make_table(window=3)
    table.append(17)
    table.free_behind_window()

    can_continue = []
    for length in (17, 10, 9, 2, 0):
        table.truncate(length)
        can_continue.append(table.can_continue)

    assert can_continue == [True, True, False, False, True]


def test_a_table_may_begin_with_pages_held_for_it() -> None:
    """Those of the prefix cache."""
    pool, table = make_table()
    pages = pool.allocate(2)

    table.adopt(pages)

    assert (table.length, table.pages) == (8, pages)
    table.release()
    assert pool.num_free == 8


@dataclass
class Twin:
    """A table, and the tokens that ought to be in its pages."""

    table: PageTable
    tokens: list[int] = field(default_factory=list)


@dataclass
class Memory:
    """Contents of pages, as a storage would keep them."""

    slots: dict[tuple[PageId, int], int] = field(default_factory=dict)

    def copy(self, copies: list[PageCopy]) -> None:
        for copy in copies:
            for offset in range(PAGE_SIZE):
                if (copy.source, offset) in self.slots:
                    self.slots[copy.target, offset] = self.slots[copy.source, offset]

    def write(self, table: PageTable, position: int, token: int) -> None:
        self.slots[table.pages[position // PAGE_SIZE], position % PAGE_SIZE] = token

    def read(self, table: PageTable, first: int) -> list[int]:
        positions = range(first, table.length)
        return [self.slots[table.pages[at // PAGE_SIZE], at % PAGE_SIZE] for at in positions]


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["append", "append", "truncate", "fork", "free"]),
        st.integers(0, 11),
        st.integers(0, 3),
    ),
    max_size=40,
)


class Bench:
    """Tables of one pool that are forks of each other, and what they ought to hold."""

    def __init__(self, window: int | None) -> None:
        self.pool, self.memory, self.window = PagePool(24), Memory(), window
        self.twins = [Twin(PageTable(self.pool, PAGE_SIZE, window))]
        self._next_token = 0

    def call(self, name: str, number: int, twin: Twin) -> None:
        table = twin.table
        if name == "append":
            self._append(twin, number)
        elif name == "truncate":
            table.truncate(min(number, table.length))
            del twin.tokens[table.length :]
        elif name == "fork" and len(self.twins) < 4:
            self.twins.append(Twin(table.fork(), list(twin.tokens)))
        elif name == "free":
            table.free_behind_window()

    def _append(self, twin: Twin, number: int) -> None:
        table, free = twin.table, self.pool.num_free
        needed = table.num_needed(number)
        if not table.can_continue or needed > free:
            return
        self.memory.copy(table.append(number))
        assert free - self.pool.num_free == needed
        for position in range(table.length - number, table.length):
            self.memory.write(table, position, self._next_token)
            twin.tokens.append(self._next_token)
            self._next_token += 1

    def check(self) -> None:
        self.pool.check_integrity()
        for twin in self.twins:
            table = twin.table
            first = 0 if self.window is None else max(0, table.length + 1 - self.window)
            if table.can_continue:
                assert self.memory.read(table, first) == twin.tokens[first:]


@pytest.mark.parametrize("window", [None, 5])
@given(operations=OPERATIONS)
def test_contents_survive_any_order_of_calls(
    window: int | None, operations: list[tuple[str, int, int]]
) -> None:
    """Every table reads its own tokens, whatever its forks do; at the end no page is lost."""
    bench = Bench(window)

    for name, number, which in operations:
        bench.call(name, number, bench.twins[which % len(bench.twins)])
        bench.check()

    for twin in bench.twins:
        twin.table.release()
    assert bench.pool.num_free == bench.pool.num_pages
