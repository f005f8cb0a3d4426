"""Sequences over several layout groups."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_server.errors import PagesExhaustedError
from swarm_server.kv.layout import KVLayout
from swarm_server.kv.memory import KVMemory
from swarm_server.kv.sequence_kv import SequenceKV, count_reclaimable

PAGE_SIZE = 4


def make_memory(num_pages: int, windows: tuple[int | None, ...] = (3, None)) -> KVMemory:
    return KVMemory(num_pages, KVLayout(windows, PAGE_SIZE))


def test_a_page_is_taken_in_every_group() -> None:
    """Their tables have one length."""
    memory = make_memory(6)
    sequence = SequenceKV(memory)

    sequence.append(5)

    assert [table.length for table in sequence.tables] == [5, 5]
    assert memory.num_available == 2


def test_appending_is_all_or_nothing_over_groups() -> None:
    """Pages for one group only are not taken."""
    memory = make_memory(3)
    sequence = SequenceKV(memory)
    sequence.append(4)

    with pytest.raises(PagesExhaustedError):
        sequence.append(1)

    assert [table.length for table in sequence.tables] == [4, 4]
    memory.check_integrity(sequence.pages)


def test_only_windowed_groups_give_pages_back() -> None:
    """The others see everything."""
    memory = make_memory(20)
    sequence = SequenceKV(memory)
    sequence.append(20)

    sequence.free_behind_window()

    assert [len([p for p in table.pages if p >= 0]) for table in sequence.tables] == [2, 5]


def test_pages_shared_with_others_are_not_reclaimable() -> None:
    """Those shared only among the sequences asked about are, and so are kept ones."""
    memory = make_memory(8, windows=(None,))
    first = SequenceKV(memory)
    first.append(12)
    first.keep_prefix(b"a", 0)
    second = first.fork()
    second.append(1)

    assert count_reclaimable(memory, first.pages + second.pages) == 4
    assert count_reclaimable(memory, second.pages) == 1


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["append", "truncate", "fork", "free", "match", "keep", "release"]),
        st.integers(0, 12),
        st.integers(0, 3),
    ),
    max_size=40,
)


class Bench:
    """Sequences on one memory, and the prefixes that they keep."""

    def __init__(self) -> None:
        self.memory = make_memory(20)
        self.sequences = [SequenceKV(self.memory) for _ in range(2)]

    def call(self, name: str, number: int, sequence: SequenceKV) -> None:
        if name == "append" and sequence.can_continue:
            with suppress(PagesExhaustedError):
                sequence.append(number)
        elif name == "truncate":
            sequence.truncate(min(number, sequence.length))
        elif name == "fork" and len(self.sequences) < 4:
            self.sequences.append(sequence.fork())
        elif name == "free":
            sequence.free_behind_window()
        elif name == "match":
            sequence.release()
            sequence.match_prefix([bytes([index]) for index in range(number)])
        elif name == "keep" and number < sequence.length // PAGE_SIZE:
            sequence.keep_prefix(bytes([number]), number)
        elif name == "release":
            sequence.release()


@given(OPERATIONS)
def test_no_page_is_lost_under_any_order_of_calls(operations: list[tuple[str, int, int]]) -> None:
    """Sequences that share prefixes and forks; at the end all pages are available."""
    bench = Bench()

    for name, number, which in operations:
        bench.call(name, number, bench.sequences[which % len(bench.sequences)])
        bench.memory.check_integrity([p for each in bench.sequences for p in each.pages])

    for sequence in bench.sequences:
        sequence.release()
    assert bench.memory.num_available == bench.memory.num_pages
