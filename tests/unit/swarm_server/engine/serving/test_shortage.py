"""When pages run out: preemption, recomputation, waiting, refusal; and pages that are shared."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any  # of fields that a test sets

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from swarm_server.engine.serving import EngineSession
from swarm_server.engine.serving.requests import Step
from swarm_server.errors import KVMemoryError
from tests.unit.swarm_server.engine.serving.running_sums import (
    LIMITS,
    Bench,
    run_step,
    running_engine,
    tokens,
)

HASHES = [b"a" * 16, b"b" * 16, b"c" * 16]


async def test_a_preempted_session_goes_on_as_if_nothing_had_happened() -> None:
    """What it had computed is computed again from its inputs."""
    async with running_engine(num_pages=3) as bench:
        first, last = bench.open(), bench.open()
        await run_step(first, tokens(1, 2, 3, 4))
        await run_step(last, tokens(1, 2, 3, 4, 5))

        assert await run_step(first, tokens(5)) == [15]
        assert bench.engine.counters.num_preemptions == 1
        first.close()

        assert await run_step(last, tokens(6)) == [21]
        assert last.position == 6
        bench.assert_all_is_free()


async def test_recomputation_repeats_prompts_and_row_changes() -> None:
    """Whatever had made the session what it was."""
    async with running_engine(num_pages=8) as bench:
        first, last = bench.open(), bench.open(num_rows=2)
        await run_step(first, tokens(0))
        prompts = torch.ones(1, 2, 1, 2)
        await run_step(last, Step(tokens(1, 2, num_rows=2), prompts=prompts))
        swap = torch.tensor([1, 1])
        await run_step(last, Step(tokens(3, num_rows=2), hypo_ids=swap))

        await run_step(first, tokens(*[0] * 28))
        first.close()

        result = await last.submit(Step(tokens(0, num_rows=2)), position=3)
        assert bench.engine.counters.num_preemptions == 1
        assert result.hidden[:, 0, 0].tolist() == [101 + 1 + 102 + 3, 101 + 1 + 102 + 103 + 100]
        bench.assert_all_is_free()


async def test_a_preempted_session_can_be_rolled_back() -> None:
    """And cut in the middle of what is gone."""
    async with running_engine(num_pages=3) as bench:
        first, last = bench.open(), bench.open()
        await run_step(first, tokens(0))
        await run_step(last, tokens(1, 2, 3, 4, 5))
        await run_step(first, tokens(*[0] * 11))
        first.close()

        assert await run_step(last, tokens(10), position=3) == [16]
        bench.assert_all_is_free()


async def test_a_step_without_pages_waits_for_them() -> None:
    """Until others end."""
    async with running_engine(num_pages=2) as bench:
        first, last = bench.open(), bench.open()
        await run_step(first, tokens(*range(8)))
        waiting = asyncio.ensure_future(run_step(last, tokens(1)))
        await bench.settle()
        assert not waiting.done()

        first.close()

        assert await waiting == [1]
        bench.assert_all_is_free()


async def test_a_step_that_waits_too_long_is_refused_with_what_is_free() -> None:
    """It may be tried again."""
    async with running_engine(num_pages=3) as bench:
        first, last = bench.open(), bench.open(wait_s=60)
        await run_step(first, tokens(*range(8)))
        waiting = asyncio.ensure_future(run_step(last, tokens(*range(8))))
        await bench.settle()
        bench.clock.now += 4  # first does not rest yet
        await bench.settle()
        assert not waiting.done()
        first.stepped_at = bench.clock.now = 60

        with pytest.raises(KVMemoryError, match=r"no room for 8 tokens .*, 4 tokens are free") as e:
            await waiting
        assert e.value.num_free_tokens == 4
        assert last.position == 0
        bench.assert_all_is_free()


async def test_a_step_that_can_never_fit_is_refused_at_once() -> None:
    """When nobody else holds pages there is nothing to wait for."""
    async with running_engine(num_pages=2) as bench:
        with pytest.raises(KVMemoryError, match="no room for 12 tokens"):
            await run_step(bench.open(), tokens(*range(12)))
        bench.assert_all_is_free()


async def test_a_session_that_rests_gives_way() -> None:
    """Even to one that came later; it is computed again when it wakes."""
    async with running_engine(num_pages=2) as bench:
        first, last = bench.open(), bench.open()
        await run_step(first, tokens(1, 2, 3, 4, 5))
        bench.clock.now = LIMITS.rest_s

        assert await run_step(last, tokens(1, 1, 1, 1, 1)) == [1, 2, 3, 4, 5]
        last.close()
        assert await run_step(first, tokens(6)) == [21]
        bench.assert_all_is_free()


async def test_an_equal_prefix_is_computed_once() -> None:
    """The second session begins where the first one's whole pages end."""
    async with running_engine() as bench:
        first, second = bench.open(), bench.open()
        assert first.match_prefix(HASHES) == 0
        await run_step(first, tokens(1, 2, 3, 4, 5, 6, 7, 8, 9))
        first.close()

        assert second.match_prefix(HASHES) == second.position == 8
        assert await run_step(second, tokens(9)) == [45]
        assert bench.engine.counters.num_tokens == 10
        bench.assert_all_is_free()


@pytest.mark.parametrize("change", [{"adapter": "x"}, {"num_rows": 2}])
async def test_other_sessions_share_no_prefix(change: dict[str, Any]) -> None:
    """Other weights, or several rows."""
    async with running_engine() as bench:
        first = bench.open()
        first.match_prefix(HASHES)
        await run_step(first, tokens(*range(9)))

        assert bench.open(**change).match_prefix(HASHES) == 0
        bench.assert_all_is_free()


@pytest.mark.parametrize(("max_length", "num_cached"), [(3, 0), (4, 4), (7, 4), (8, 8)])
async def test_a_session_shares_no_more_than_it_has_asked_for(
    max_length: int, num_cached: int
) -> None:
    """Whole pages of it; who names more is not believed."""
    async with running_engine() as bench:
        first, short = bench.open(), bench.open(max_length=max_length)
        first.match_prefix(HASHES)
        await run_step(first, tokens(*range(9)))

        assert short.match_prefix(HASHES) == num_cached
        bench.assert_all_is_free()


async def test_prompted_and_rolled_back_tokens_are_not_kept_for_others() -> None:
    """The hashes do not speak of them."""
    async with running_engine() as bench:
        prompted, rolled_back = bench.open(), bench.open()
        for session in (prompted, rolled_back):
            session.match_prefix(HASHES)
        await run_step(prompted, Step(tokens(*range(9)), prompts=torch.ones(1, 1, 1, 2)))
        await run_step(rolled_back, tokens(0, 1, 2))
        await run_step(rolled_back, tokens(*range(9)), position=1)

        assert bench.open().match_prefix(HASHES) == 0
        bench.assert_all_is_free()


async def test_a_matched_prefix_outlives_preemption() -> None:
    """Its inputs were never here, so its pages are not given up."""
    async with running_engine(num_pages=4) as bench:
        first, source, last = bench.open(), bench.open(), bench.open()
        await run_step(first, tokens(0))
        source.match_prefix(HASHES)
        await run_step(source, tokens(1, 2, 3, 4))
        source.close()
        last.match_prefix(HASHES)
        await run_step(last, tokens(5))

        await run_step(first, tokens(*[0] * 11))
        first.close()

        assert bench.engine.counters.num_preemptions == 1
        assert await run_step(last, tokens(6)) == [21]
        bench.assert_all_is_free()


CALLS = st.lists(
    st.tuples(
        st.integers(0, 3),  # which session
        st.integers(0, 9),  # number of tokens
        st.sampled_from(["step", "step", "last", "roll", "swap", "rest", "close"]),
    ),
    max_size=25,
)


class _Sums:
    """A session, and what its rows ought to have added up."""

    def __init__(self, session: EngineSession) -> None:
        self.session = session
        self.rows: list[list[float]] = [[], []]

    async def step(self, number: int, call: str) -> None:
        position = self.session.position
        if call == "roll":
            position //= 2
        rows = [row[:position] for row in self.rows]
        hypo_ids = torch.tensor([1, 1]) if call == "swap" else None
        if hypo_ids is not None:
            rows = [list(rows[1]), list(rows[1])]
        hidden = tokens(*range(1, number + 1), num_rows=2)
        only_last = call == "last" and number > 0
        step = Step(hidden, hypo_ids=hypo_ids, only_last=only_last)
        result = await self.session.submit(step, position=position)
        self.rows = [row + new for row, new in zip(rows, hidden[:, :, 0].tolist(), strict=True)]
        for row, outputs in zip(self.rows, result.hidden[:, :, 0].tolist(), strict=True):
            sums = torch.tensor(row).cumsum(0)[position:].tolist()
            assert outputs == (sums[-1:] if only_last else sums)


@given(calls=CALLS, leaves_out=st.booleans())
def test_no_shortage_changes_any_output(
    *, calls: list[tuple[int, int, str]], leaves_out: bool
) -> None:
    """Sessions that together want more than there is, in any order of calls."""
    asyncio.run(_run_short(calls, leaves_out=leaves_out))


async def _run_short(calls: list[tuple[int, int, str]], *, leaves_out: bool) -> None:
    limits = replace(LIMITS, page_wait_s=0.0)
    async with running_engine(num_pages=16, limits=limits) as bench:
        bench.span.leaves_out = leaves_out
        sums: dict[int, _Sums] = {}
        for which, number, call in calls:
            if which not in sums:
                sums[which] = _Sums(bench.open(num_rows=2, max_length=30))
            if call == "rest":
                bench.clock.now += LIMITS.rest_s
            elif call == "close":
                sums.pop(which).session.close()
            elif sums[which].session.position + number <= 30:
                await _step_or_close(sums, which, number, call)
            bench.engine.check_integrity()
        bench.assert_all_is_free()


async def _step_or_close(sums: dict[int, _Sums], which: int, number: int, call: str) -> None:
    try:
        await sums[which].step(number, call)
    except KVMemoryError:  # others hold too much
        sums.pop(which).session.close()


@pytest.mark.parametrize("num_devices", [0, 1])
async def test_sessions_at_once_survive_a_shortage(num_devices: int) -> None:
    """All finish with their own sums, whoever preempts whom; also when batches are made ahead."""
    with ThreadPoolExecutor(1) as executor:
        await _chat_in_a_shortage(executor if num_devices else None)


async def _chat_in_a_shortage(device: ThreadPoolExecutor | None) -> None:
    async with running_engine(num_pages=6, device=device) as bench:

        async def chat(bench: Bench, first: int) -> list[float]:
            session, outputs = bench.open(), list[float]()
            for number in range(12):
                outputs += await run_step(session, tokens(first + number))
            session.close()
            return outputs

        together = await asyncio.gather(*(chat(bench, number) for number in range(4)))

        for first, outputs in enumerate(together):
            assert outputs == torch.arange(first, first + 12.0).cumsum(0).tolist()
        assert bench.engine.counters.num_preemptions > 0
        bench.assert_all_is_free()
