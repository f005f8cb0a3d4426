"""The pages of all rows of a session."""

import pytest

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
