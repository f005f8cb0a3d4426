"""What a session keeps for a replay."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from swarm_client.session.history import History, StepInputs, follow

NUM_ROWS = 3


def hidden(start: int, end: int, num_rows: int = NUM_ROWS) -> Tensor:
    """Return `[num_rows, end - start, 1]`, 10 * position + row."""
    return 10.0 * torch.arange(start, end)[None, :, None] + torch.arange(num_rows)[:, None, None]


def test_all_steps_come_back_as_one() -> None:
    """With the deep prompts of the first."""
    history = History(max_bytes=1000)
    prompts = torch.ones(4, 1, 2, 1)
    history.append(StepInputs(hidden(0, 3), prompts))
    history.append(StepInputs(hidden(3, 4)))

    inputs = history.inputs_of(torch.arange(NUM_ROWS))

    assert inputs is not None
    assert inputs.hidden.equal(hidden(0, 4))
    assert inputs.prompts is prompts


def test_prompts_of_each_row_go_with_it_and_end_where_the_tokens_do() -> None:
    """Rows may be reordered, and tokens forgotten."""
    history = History(max_bytes=1000)
    prompts = torch.randn(4, NUM_ROWS, 3, 1)
    history.append(StepInputs(hidden(0, 3), prompts))
    history.truncate(2)

    inputs = history.inputs_of(torch.tensor([2, 0]))

    assert inputs is not None
    assert inputs.prompts is not None
    assert inputs.prompts.equal(prompts[:, [2, 0], :2])


def test_too_many_bytes_are_none_until_it_begins_anew() -> None:
    """A part would be of no use."""
    history = History(max_bytes=NUM_ROWS * 4 * 2)
    were_complete = []
    history.append(StepInputs(hidden(0, 2)))
    were_complete.append(history.is_complete)
    history.append(StepInputs(hidden(2, 3)))
    were_complete.append(history.is_complete)
    history.truncate(1)
    were_complete.append(history.is_complete)
    history.truncate(0)
    were_complete.append(history.is_complete)

    assert were_complete == [True, False, False, True]
    assert history.inputs_of(torch.arange(NUM_ROWS)) is None


def test_a_shortened_history_makes_room() -> None:
    """Bytes of forgotten tokens do not count."""
    history = History(max_bytes=NUM_ROWS * 4 * 3)
    history.append(StepInputs(hidden(0, 3)))
    history.truncate(1)
    history.append(StepInputs(hidden(1, 3)))

    assert history.is_complete


def test_a_replayed_history_is_its_own_beginning() -> None:
    """Row orders of before are in it."""
    history = History(max_bytes=1000)
    history.append(StepInputs(hidden(0, 1)))
    history.append(StepInputs(hidden(1, 2), None, torch.tensor([1, 1, 0])))
    inputs = history.inputs_of(torch.tensor([2, 0]))
    history.replace(inputs)

    again = history.inputs_of(torch.arange(2))

    assert inputs is not None
    assert again is not None
    assert again.hidden.equal(inputs.hidden)
    assert again.hidden[:, 0, 0].tolist() == [0.0, 1.0]


def test_two_orders_of_rows_are_one() -> None:
    """None changes nothing."""
    first, then = torch.tensor([2, 0, 1]), torch.tensor([1, 1])

    assert follow(None, None) is None
    assert follow(first, None) is first
    assert follow(None, then) is then
    joined = follow(first, then)
    assert joined is not None
    assert joined.tolist() == [0, 0]


orders = st.none() | st.permutations(range(NUM_ROWS)) | st.just([0, 0, 2])
steps = st.tuples(st.integers(1, 3), orders)
rollbacks = st.floats(0, 1)


@given(st.lists(steps | rollbacks, max_size=12))
def test_it_equals_what_servers_hold(events: list[tuple[int, list[int] | None] | float]) -> None:
    """Their caches are reordered as a whole before a step, and cut by a rollback."""
    history = History(max_bytes=10**6)
    cache = torch.zeros(NUM_ROWS, 0, 1)
    for event in events:
        if isinstance(event, float):
            position = int(event * cache.shape[1])
            cache = cache[:, :position]
            history.truncate(position)
            continue
        num_tokens, order = event
        hypo_ids = None if order is None else torch.tensor(order)
        inputs = torch.randn(NUM_ROWS, num_tokens, 1)
        cache = torch.cat([cache if order is None else cache[order], inputs], dim=1)
        history.append(StepInputs(inputs, None, hypo_ids))

    kept = history.inputs_of(torch.arange(NUM_ROWS))

    assert (torch.zeros(NUM_ROWS, 0, 1) if kept is None else kept.hidden).equal(cache)
