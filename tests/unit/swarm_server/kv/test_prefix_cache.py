"""Prefixes that outlive their sequences."""

from swarm_server.kv.layout import KVLayout
from swarm_server.kv.memory import KVMemory
from swarm_server.kv.sequence_kv import SequenceKV

PAGE_SIZE = 4
HASHES = [b"a", b"ab", b"abc"]


def make_memory(num_pages: int = 8, windows: tuple[int | None, ...] = (None,)) -> KVMemory:
    return KVMemory(num_pages, KVLayout(windows, PAGE_SIZE))


def run_sequence(memory: KVMemory, num_tokens: int) -> SequenceKV:
    """Append tokens whose full pages are kept as HASHES."""
    sequence = SequenceKV(memory)
    sequence.append(num_tokens)
    for index in range(num_tokens // PAGE_SIZE):
        sequence.keep_prefix(HASHES[index], index)
    return sequence


def test_an_equal_prefix_shares_pages() -> None:
    """As far as it is known, while the first sequence lives and after its end."""
    memory = make_memory()
    first = run_sequence(memory, 9)
    second, third = SequenceKV(memory), SequenceKV(memory)

    assert second.match_prefix([*HASHES[:2], b"other"]) == 8
    assert second.pages == first.pages[:2]
    first.release()
    second.release()
    assert third.match_prefix(HASHES) == 8
    memory.check_integrity(third.pages)


def test_an_unknown_prefix_matches_nothing() -> None:
    """Neither does one whose beginning is unknown."""
    memory = make_memory()
    run_sequence(memory, 9)
    sequence = SequenceKV(memory)

    assert sequence.match_prefix([b"x", b"ab"]) == 0
    assert sequence.length == 0


def test_kept_pages_are_available_once_nobody_holds_them() -> None:
    """The cache gives them away when others need them."""
    memory = make_memory(num_pages=4)
    first = run_sequence(memory, 9)
    assert memory.num_available == 1

    first.release()
    assert memory.num_available == 4
    second = SequenceKV(memory)
    second.append(4 * PAGE_SIZE)

    memory.check_integrity(second.pages)
    assert SequenceKV(memory).match_prefix(HASHES) == 0


def test_the_end_of_the_prefix_used_longest_ago_goes_first() -> None:
    """What is left is still a prefix, and what was used last is whole."""
    memory = make_memory(num_pages=6)
    run_sequence(memory, 12).release()
    SequenceKV(memory).match_prefix([])
    user = SequenceKV(memory)
    user.match_prefix(HASHES)
    user.release()

    user.append(4 * PAGE_SIZE)
    user.release()

    assert SequenceKV(memory).match_prefix(HASHES) == 8


def test_pages_in_use_are_not_evicted() -> None:
    """Not even when that leaves too few."""
    memory = make_memory(num_pages=3)
    first = run_sequence(memory, 8)

    assert memory.num_available == 1
    assert first.num_needed(9) == 3


def test_the_same_prefix_computed_twice_is_kept_once() -> None:
    """The second sequence keeps its own pages until it ends."""
    memory = make_memory()
    first, second = run_sequence(memory, 8), run_sequence(memory, 8)

    assert set(first.pages).isdisjoint(second.pages)
    second.release()
    memory.check_integrity(first.pages)
    assert memory.num_available == 6


def test_pages_behind_a_window_stay_for_later_sequences() -> None:
    """The cache holds them when the sequence no longer does."""
    memory = make_memory(num_pages=10, windows=(2, None))
    first = run_sequence(memory, 12)
    first.free_behind_window()
    second = SequenceKV(memory)

    assert second.match_prefix(HASHES) == 12
    memory.check_integrity([*first.pages, *second.pages])
