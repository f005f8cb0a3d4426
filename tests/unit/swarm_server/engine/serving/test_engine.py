"""Sessions in the engine: batches, positions, failures, and what is free afterwards."""

import asyncio
import weakref
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from swarm_server.engine.serving.requests import Step, StepResult
from swarm_server.errors import (
    BatchFailedError,
    InvalidPositionError,
    InvalidStepError,
    MaxLengthExceededError,
    NotFiniteError,
    StepUnfinishedError,
)
from tests.unit.swarm_server.engine.serving.running_sums import (
    HIDDEN_SIZE,
    Bench,
    run_step,
    running_engine,
    tokens,
)


@pytest.fixture(params=["compute thread", "device"])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    """Whoever computes: a thread that tells when it has, or a device that is asked."""
    with ThreadPoolExecutor(1) as device:
        async with running_engine(device=device if request.param == "device" else None) as bench:
            yield bench
            bench.assert_all_is_free()


async def test_a_session_continues_where_it_was(bench: Bench) -> None:
    """However its tokens are cut into steps."""
    session = bench.open()

    outputs = [await run_step(session, tokens(*step)) for step in ([1, 2, 3], [4], [5, 6])]

    assert outputs == [[1, 3, 6], [10], [15, 21]]
    assert session.position == 6


async def test_steps_submitted_together_run_in_one_batch(bench: Bench) -> None:
    """And are answered together."""
    sessions = [bench.open() for _ in range(3)]

    futures = [session.submit(Step(tokens(7)), position=0) for session in sessions]
    results = await asyncio.gather(*futures)

    assert [result.num_batch_rows for result in results] == [3, 3, 3]
    assert len(bench.span.batches) == 1


async def test_steps_that_come_during_a_batch_run_in_the_next(bench: Bench) -> None:
    """Sessions join and leave between batches."""
    first, second, third = (bench.open() for _ in range(3))
    bench.span.go_on.clear()
    running = first.submit(Step(tokens(1)), position=0)
    await bench.wait_started()
    waiting = [session.submit(Step(tokens(1)), position=0) for session in (second, third)]
    bench.span.go_on.set()

    assert (await running).num_batch_rows == 1
    assert [result.num_batch_rows for result in await asyncio.gather(*waiting)] == [2, 2]


async def test_a_long_prefill_is_cut_beside_a_chat(bench: Bench) -> None:
    """Its outputs come in one piece all the same."""
    chat, prefill = bench.open(), bench.open()
    await run_step(chat, tokens(1))

    outputs = await run_step(prefill, tokens(*range(40)))

    assert outputs == torch.arange(40.0).cumsum(0).tolist()
    assert [len(batch.hidden) for batch in bench.span.batches] == [1, 16, 16, 8]
    assert bench.engine.counters.num_prefill_tokens == 40


@pytest.mark.parametrize("leaves_out", [False, True])
async def test_of_a_step_only_the_last_outputs_may_be_wanted(
    bench: Bench, *, leaves_out: bool
) -> None:
    """Of each row, however the step is cut into batches; whether or not the others are computed."""
    bench.span.leaves_out = leaves_out
    session, neighbour = bench.open(num_rows=2), bench.open()
    step = Step(tokens(*range(40), num_rows=2), only_last=True)

    results = [session.submit(step, position=0), neighbour.submit(Step(tokens(1, 2)), position=0)]
    last, all_ = await asyncio.gather(*results)

    assert last.hidden[:, :, 0].tolist() == [[780.0], [780.0 + 40 * 100]]
    assert all_.hidden[:, :, 0].tolist() == [[1, 3]]
    assert len(bench.span.batches) > 1
    assert await run_step(session, tokens(1, num_rows=2)) == [781]


async def test_rolling_back_forgets_what_came_after(bench: Bench) -> None:
    """To the middle, and to the start."""
    session = bench.open()
    await run_step(session, tokens(1, 2, 3, 4, 5, 6))

    assert await run_step(session, tokens(10), position=2) == [13]
    assert session.position == 3
    assert await run_step(session, tokens(1), position=0) == [1]


async def test_rows_may_continue_others(bench: Bench) -> None:
    """They share pages until they differ, and keep their own tokens."""
    session = bench.open(num_rows=3)
    await run_step(session, tokens(1, 2, num_rows=3))

    step = Step(tokens(5, num_rows=3), hypo_ids=torch.tensor([2, 0, 0]))
    result = await session.submit(step, position=2)

    assert result.hidden[:, 0, 0].tolist() == [403 + 5, 3 + 105, 3 + 205]


async def test_the_number_of_rows_may_change(bench: Bench) -> None:
    """Within what was asked for at the start."""
    session = bench.open(num_rows=3)
    await run_step(session, tokens(1, num_rows=3))
    fewer = Step(tokens(5), hypo_ids=torch.tensor([1]))

    assert await run_step(session, fewer) == [106]
    more = Step(tokens(0, num_rows=2), hypo_ids=torch.tensor([0, 0]))
    result = await session.submit(more, position=2)
    assert result.hidden[:, 0, 0].tolist() == [106, 206]


async def test_a_step_without_tokens_may_reorder(bench: Bench) -> None:
    """It is done at once."""
    session = bench.open(num_rows=2)
    await run_step(session, tokens(1, num_rows=2))

    step = Step(torch.empty(2, 0, 2), hypo_ids=torch.tensor([1, 0]))
    result = await session.submit(step, position=1)

    assert result.hidden.shape == (2, 0, 2)
    assert await run_step(session, tokens(0, num_rows=2)) == [101]


async def test_prompts_go_to_the_first_tokens_of_a_step(bench: Bench) -> None:
    """Also where a step is cut in the middle of them."""
    chat, session = bench.open(), bench.open()
    await run_step(chat, tokens(1))
    prompts = torch.ones(1, 1, 18, 2)

    outputs = await run_step(session, Step(tokens(*[0] * 20), prompts=prompts))

    assert outputs == [*range(1, 19), 18, 18]


async def test_sessions_of_an_adapter_stand_side_by_side(bench: Bench) -> None:
    """Whatever order they come in."""
    names = ["ab", None, "c", "ab", None]
    sessions = [bench.open(adapter=name) for name in names]

    outputs = await asyncio.gather(*(run_step(session, tokens(1)) for session in sessions))

    assert outputs == [[3], [1], [2], [3], [1]]
    assert [(r.start, r.end, r.name) for r in bench.span.batches[0].adapters] == [
        (2, 4, "ab"),
        (4, 5, "c"),
    ]


async def test_a_poisoned_row_fails_alone(bench: Bench) -> None:
    """Its neighbours' outputs are those that they would have been; so is its own next step."""
    poisoned, neighbour = bench.open(), bench.open()
    await run_step(poisoned, tokens(1))
    steps = [
        poisoned.submit(Step(tokens(torch.nan)), position=1),
        neighbour.submit(Step(tokens(4)), position=0),
    ]

    failure, result = await asyncio.gather(*steps, return_exceptions=True)

    assert isinstance(failure, NotFiniteError)
    assert not isinstance(result, BaseException)
    assert result.hidden[0, 0, 0] == 4
    assert poisoned.position == 1
    assert await run_step(poisoned, tokens(1)) == [2]


@pytest.mark.parametrize("leaves_out", [False, True])
async def test_a_poisoned_token_fails_its_step_even_if_its_outputs_are_not_wanted(
    bench: Bench, *, leaves_out: bool
) -> None:
    """Its keys and values would be in the pages that all later tokens see."""
    bench.span.leaves_out = leaves_out
    session = bench.open()
    poisoned = tokens(torch.nan, *range(40))

    with pytest.raises(NotFiniteError):
        await session.submit(Step(poisoned, only_last=True), position=0)

    assert await run_step(session, tokens(1)) == [1]


@pytest.mark.parametrize("failing", ["launch_failure", "failure"])
async def test_a_failing_device_ends_the_batch_and_not_the_engine(
    bench: Bench, failing: str
) -> None:
    """With an error that says to try again; sessions are as they were."""
    sessions = [bench.open(), bench.open()]
    for session in sessions:
        await run_step(session, tokens(1, 2))
    setattr(bench.span, failing, torch.OutOfMemoryError("no memory"))
    steps = [session.submit(Step(tokens(3)), position=1) for session in sessions]

    failures = await asyncio.gather(*steps, return_exceptions=True)
    setattr(bench.span, failing, None)

    assert all(isinstance(failure, BatchFailedError) for failure in failures)
    assert BatchFailedError.retryable
    assert await run_step(sessions[0], tokens(3)) == [4]


async def test_wrong_steps_are_refused_before_they_change_anything(bench: Bench) -> None:
    """Shapes, rows, lengths and positions."""
    session = bench.open(max_length=4, num_rows=2)
    await run_step(session, tokens(1, 2, num_rows=2))
    good = tokens(1, num_rows=2)

    for step, position, error in [
        (Step(torch.zeros(2, 1, 3)), 2, InvalidStepError),
        (Step(torch.zeros(2, 2)), 2, InvalidStepError),
        (Step(tokens(1)), 2, InvalidStepError),
        (Step(good, hypo_ids=torch.tensor([0, 2])), 2, InvalidStepError),
        (Step(tokens(1, num_rows=3), hypo_ids=torch.tensor([0, 1, 1])), 2, InvalidStepError),
        (Step(good, prompts=torch.zeros(2, 1, 1, 2)), 2, InvalidStepError),
        (Step(good), 3, InvalidPositionError),
        (Step(good), -1, InvalidPositionError),
        (Step(tokens(1, 2, 3, num_rows=2)), 2, MaxLengthExceededError),
    ]:
        with pytest.raises(error):
            session.submit(step, position=position)

    assert await run_step(session, good) == [4]


async def test_a_session_makes_one_step_at_a_time(bench: Bench) -> None:
    """A second one is refused, the first goes on."""
    session = bench.open()
    first = session.submit(Step(tokens(1)), position=0)

    with pytest.raises(StepUnfinishedError):
        session.submit(Step(tokens(2)), position=0)

    assert (await first).hidden[0, 0, 0] == 1


async def test_closing_cancels_a_step_that_waits(bench: Bench) -> None:
    """Its pages are free at once."""
    running, waiting = bench.open(), bench.open()
    bench.span.go_on.clear()
    first = running.submit(Step(tokens(1)), position=0)
    await bench.wait_started()
    second = waiting.submit(Step(tokens(1)), position=0)
    freed = []

    waiting.close(lambda: freed.append("waiting"))
    assert freed == ["waiting"]
    assert second.cancelled()
    bench.span.go_on.set()

    await first
    assert len(bench.span.batches) == 1


async def test_closing_during_a_batch_frees_pages_when_it_ends(bench: Bench) -> None:
    """Not before: the compute thread still writes there."""
    session, freed = bench.open(), asyncio.Event()
    bench.span.go_on.clear()
    session.submit(Step(tokens(1)), position=0)
    await bench.wait_started()

    session.close(freed.set)
    session.close()
    assert not freed.is_set()
    assert bench.memory.num_available == 31
    bench.span.go_on.set()
    await freed.wait()

    assert bench.memory.num_available == 32


async def test_a_result_says_what_it_cost(bench: Bench) -> None:
    """Waiting and computing, in milliseconds."""
    session = bench.open()
    bench.span.go_on.clear()
    future = session.submit(Step(tokens(1)), position=0)
    await bench.wait_started()
    bench.clock.now = 0.25
    bench.span.go_on.set()

    result = await future

    assert (result.queue_ms, result.compute_ms) == (0, 250)


async def test_caller_cancels_the_wait_for_a_step(bench: Bench) -> None:
    """The step goes on, and the session with it."""
    session = bench.open()
    bench.span.go_on.clear()
    future = session.submit(Step(tokens(1)), position=0)
    await bench.wait_started()

    future.cancel()
    bench.span.go_on.set()
    await run_step(bench.open(), tokens(1))

    assert session.position == 1
    assert await run_step(session, tokens(1)) == [2]


async def test_a_listener_may_make_the_next_step(bench: Bench) -> None:
    """It hears of each step once."""
    session, heard = bench.open(), list[float]()
    is_done = asyncio.Event()

    def listen(outcome: StepResult | BaseException) -> None:
        assert isinstance(outcome, StepResult)
        heard.append(outcome.hidden[0, 0, 0].item())
        if len(heard) == 3:
            is_done.set()
        else:
            session.begin_step(Step(tokens(1)), position=session.position, on_done=listen)

    session.begin_step(Step(tokens(1)), position=0, on_done=listen)
    await is_done.wait()

    assert heard == [1, 2, 3]


async def test_a_long_generation_lets_go_of_the_frames_that_brought_it(bench: Bench) -> None:
    """What it may have to compute again has been copied from them."""
    session, frames = bench.open(), list[weakref.ref[NDArray[np.float32]]]()
    for position in range(40):
        frame = np.ones((100, 1, HIDDEN_SIZE), np.float32)
        frames.append(weakref.ref(frame))
        await run_step(session, torch.from_numpy(frame)[:1], position)
        del frame
    bench.span.batches.clear()
    await bench.settle()

    assert [index for index, frame in enumerate(frames) if frame() is None] == list(range(32))
    assert await run_step(session, tokens(1)) == [41]


async def test_outputs_do_not_wait_for_inputs_to_be_copied(bench: Bench) -> None:
    """Whoever hears of the step that is one too many to keep finds all of its frames there."""
    session, frame, heard = bench.open(), np.ones((9, 1, HIDDEN_SIZE), np.float32), asyncio.Event()
    first, was_kept = weakref.ref(frame), list[bool]()
    await run_step(session, torch.from_numpy(frame)[:1])
    del frame
    for _ in range(30):
        await run_step(session, tokens(1))
    bench.span.batches.clear()

    def listen(_outcome: StepResult | BaseException) -> None:
        was_kept.append(first() is not None)
        heard.set()

    session.begin_step(Step(tokens(1)), position=31, on_done=listen)
    await heard.wait()
    await bench.settle()

    assert (was_kept, first()) == ([True], None)


async def test_a_listener_that_fails_disturbs_no_other(bench: Bench) -> None:
    """The results of the same batch arrive."""
    broken, other = bench.open(), bench.open()

    def fail(_outcome: StepResult | BaseException) -> None:
        raise RuntimeError("of a listener")

    broken.begin_step(Step(tokens(1)), position=0, on_done=fail)

    assert await run_step(other, tokens(2)) == [2]
    assert broken.position == 1


async def test_a_listener_hears_that_its_session_was_closed(bench: Bench) -> None:
    """At once and only then, though its batch still runs."""
    session, heard = bench.open(), list[StepResult | BaseException]()
    bench.span.go_on.clear()
    session.begin_step(Step(tokens(1)), position=0, on_done=heard.append)
    await bench.wait_started()

    session.close()
    bench.span.go_on.set()
    await run_step(bench.open(), tokens(1))

    assert [type(outcome) for outcome in heard] == [asyncio.CancelledError]
