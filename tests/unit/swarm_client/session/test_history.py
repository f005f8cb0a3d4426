"""What a session keeps for a replay."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from swarm_client.session import StepInputs
from swarm_client.session.history import History, follow

NUM_ROWS = 3


def hidden(start: int, end: int, num_rows: int = NUM_ROWS) -> Tensor:
    """Return `[num_rows, end - start, 1]`, 10 * position + row."""
    return 10.0 * torch.arange(start, end)[None, :, None] + torch.arange(num_rows)[:, None, None]


def test_all_steps_come_back_as_one() -> None:
    """With the deep prompts of the first."""
    history = History()
    prompts = torch.ones(4, 1, 2, 1)
    history.append(StepInputs(hidden(0, 3), prompts))
    history.append(StepInputs(hidden(3, 4)))

    inputs = history.inputs_of(torch.arange(NUM_ROWS))

    assert inputs is not None
    assert inputs.hidden.equal(hidden(0, 4))
    assert inputs.prompts is prompts


def test_prompts_of_each_row_go_with_it_and_end_where_the_tokens_do() -> None:
    """Rows may be reordered, and tokens forgotten."""
    history = History()
    prompts = torch.randn(4, NUM_ROWS, 3, 1)
    history.append(StepInputs(hidden(0, 3), prompts))
    history.truncate(2)

    inputs = history.inputs_of(torch.tensor([2, 0]))

    assert inputs is not None
    assert inputs.prompts is not None
    assert inputs.prompts.equal(prompts[:, [2, 0], :2])


def test_what_was_forgotten_is_kept_again_from_the_start_on() -> None:
    """A part would be of no use; the number of tokens is known all the time."""
    history = History()
    history.append(StepInputs(hidden(0, 2)))
    history.forget()
    history.append(StepInputs(hidden(2, 3)))
    assert (history.is_complete, history.num_tokens, history.num_bytes) == (False, 3, 0)
    history.truncate(1)
    assert (history.is_complete, history.num_tokens) == (False, 1)
    history.truncate(0)
    assert (history.is_complete, history.num_tokens) == (True, 0)

    history.append(StepInputs(hidden(0, 1)))

    inputs = history.inputs_of(torch.arange(NUM_ROWS))
    assert inputs is not None
    assert inputs.hidden.equal(hidden(0, 1))


def test_a_shortened_history_makes_room() -> None:
    """Bytes of tokens that were rolled back do not count."""
    history = History()
    history.append(StepInputs(hidden(0, 3)))
    history.append(StepInputs(hidden(3, 5)))
    history.truncate(1)

    assert history.num_bytes == hidden(0, 1).nbytes


def test_a_step_is_undone_with_its_order_of_rows() -> None:
    """It has not happened; an earlier rollback has."""
    history = History()
    history.append(StepInputs(hidden(0, 2)))
    history.append(StepInputs(hidden(2, 3), None, torch.tensor([2, 1, 0])))
    history.truncate(2)
    history.append(StepInputs(hidden(2, 3), None, torch.tensor([0, 0, 0])))
    history.append(StepInputs(hidden(3, 4)))
    history.undo(2)

    inputs = history.inputs_of(torch.arange(NUM_ROWS))

    assert inputs is not None
    assert inputs.hidden.equal(hidden(0, 2)[[2, 1, 0]])
    assert (history.num_tokens, history.num_bytes) == (2, hidden(0, 2).nbytes)


def test_a_first_step_that_is_undone_leaves_it_complete() -> None:
    """Even one that was too long to keep."""
    history = History()
    history.append(StepInputs(hidden(0, 2)))
    history.forget()
    history.undo(0)

    assert (history.is_complete, history.num_tokens) == (True, 0)


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
    history = History()
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
