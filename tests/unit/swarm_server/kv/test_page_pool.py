"""The pool of pages."""

from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from swarm_server.errors import PagesExhaustedError
from swarm_server.kv.page_pool import PagePool
from swarm_server.kv.pages import PageId


def test_a_shared_page_is_free_after_its_last_holder() -> None:
    """Each holder releases once."""
    pool = PagePool(1)
    pages = pool.allocate(1)
    pool.share(pages)

    pool.release(pages)
    assert (pool.num_free, pool.count(pages[0])) == (0, 1)
    pool.release(pages)

    assert pool.num_free == 1


@given(st.lists(st.one_of(st.integers(1, 9), st.sampled_from(["share", "release"])), max_size=60))
def test_no_page_is_lost_under_any_order_of_calls(operations: list[int | str]) -> None:
    """An int allocates so many; the others act on what was got first."""
    pool, held = PagePool(num_pages=16), list[list[PageId]]()
    for operation in operations:
        if isinstance(operation, int):
            with suppress(PagesExhaustedError):
                held.append(pool.allocate(operation))
        elif operation == "share" and held:
            pool.share(held[0])
            held.append(held[0])
        elif operation == "release" and held:
            pool.release(held.pop(0))
        pool.check_integrity()
    assert pool.num_free == 16 - len({page for pages in held for page in pages})
