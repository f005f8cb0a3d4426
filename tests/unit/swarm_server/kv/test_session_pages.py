"""The pages of all rows of a session."""

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_server.errors import PagesExhaustedError
from swarm_server.kv.layout import KVLayout
from swarm_server.kv.memory import KVMemory
from swarm_server.kv.session_pages import SessionPages

PAGE_SIZE = 4


def make_memory(num_pages: int = 12, window: int | None = None) -> KVMemory:
    return KVMemory(num_pages, KVLayout([window], PAGE_SIZE))


def test_appending_is_all_or_nothing_over_rows() -> None:
    """No row gets pages when one would not."""
    memory = make_memory(3)
    pages = SessionPages(memory, num_rows=2)

    with pytest.raises(PagesExhaustedError):
        pages.append(5)

    assert (pages.length, memory.num_available) == (0, 3)


def test_rows_that_continue_one_share_its_pages() -> None:
    """The partly filled one is copied for all but the last."""
    memory = make_memory()
    pages = SessionPages(memory, num_rows=3)
    pages.append(6)
    pages.reorder([1, 1, 1])
    assert memory.num_available == 10

    copies = pages.append(1)

    assert len(copies) == 2
    assert memory.num_available == 8


def test_what_preemption_gives_back_is_known_before() -> None:
    """Pages that others hold do not count, nor those that cannot be computed again."""
    memory = make_memory()
    first = SessionPages(memory, num_rows=1)
    first.match_prefix([b"a"])
    first.append(10)
    first.settle()
    second = SessionPages(memory, num_rows=1)
    second.match_prefix([b"a"])
    second.append(5)

    assert first.num_reclaimable() == 2
    first.release()
    assert second.num_reclaimable() == 2
    free = memory.num_available
    second.preempt()

    assert memory.num_available == free + 2
    assert second.length == second.num_fixed == 4


def test_truncating_behind_the_window_gives_all_up() -> None:
    """What the next token would look at must be computed again."""
    memory = make_memory(window=3)
    pages = SessionPages(memory, num_rows=1)
    pages.append(30)
    pages.settle()

    pages.truncate(28)
    assert pages.length == 28
    pages.truncate(10)

    assert pages.length == 0
    assert memory.num_available == 12


class Bench:
    """Two sessions on one memory; what each row has made is written to its pages and read back."""

    def __init__(self) -> None:
        self.memory = make_memory(40)
        self.sessions = [SessionPages(self.memory, num_rows=rows) for rows in (1, 2)]
        self.rows: list[list[list[int]]] = [[[]], [[], []]]
        self._written: dict[tuple[int, int], int] = {}
        self._tokens = count()

    def append(self, index: int, num_tokens: int) -> None:
        session, rows = self.sessions[index], self.rows[index]
        needed, available = session.num_needed(num_tokens), self.memory.num_available
        if needed > available:
            return
        for copy in session.append(num_tokens):
            for slot in range(PAGE_SIZE):
                self._written[copy.target, slot] = self._written.get((copy.source, slot), -1)
        assert available - self.memory.num_available <= needed
        for row, (table,) in zip(rows, session.tables, strict=True):
            for _ in range(num_tokens):
                page, slot = divmod(len(row), PAGE_SIZE)
                row.append(next(self._tokens))
                self._written[table[page], slot] = row[-1]

    def truncate(self, index: int, length: int) -> None:
        self.sessions[index].truncate(min(length, self.sessions[index].length))
        for row in self.rows[index]:
            del row[self.sessions[index].length :]

    def reorder(self, index: int, rows: list[int]) -> None:
        rows = [row % len(self.rows[index]) for row in rows]
        self.sessions[index].reorder(rows)
        self.rows[index] = [list(self.rows[index][row]) for row in rows]

    def check(self) -> None:
        """Every row reads what it wrote, and no page is lost."""
        for session, rows in zip(self.sessions, self.rows, strict=True):
            assert session.num_rows == len(rows)
            for row, (table,) in zip(rows, session.tables, strict=True):
                places = [divmod(position, PAGE_SIZE) for position in range(session.length)]
                assert [self._written[table[page], slot] for page, slot in places] == row
        self.memory.check_integrity([page for each in self.sessions for page in each.pages])


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(0, 1), st.integers(1, 6)),
        st.tuples(st.just("truncate"), st.integers(0, 1), st.integers(0, 20)),
        st.tuples(
            st.just("reorder"),
            st.integers(0, 1),
            st.lists(st.integers(0, 2), min_size=1, max_size=3),
        ),
    ),
    max_size=40,
)


@given(OPERATIONS)
def test_rows_never_write_into_each_others_pages(
    operations: list[tuple[str, int, int | list[int]]],
) -> None:
    """However they grow, shrink and fork; an append takes no more than `num_needed` says."""
    bench = Bench()
    for name, index, argument in operations:
        getattr(bench, name)(index, argument)
        bench.check()
