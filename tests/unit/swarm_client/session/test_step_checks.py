"""What a caller may send in a step."""

import pytest
import torch

from swarm_client.session.step_checks import check_hidden, check_hypo_ids, check_prompts
from tests.unit.swarm_client.scripted_server import FACTS

HIDDEN = torch.zeros(2, 3, FACTS.hidden_size)


@pytest.mark.parametrize(
    "hidden",
    [
        torch.zeros(3, 8),
        torch.zeros(2, 3, 7),
        torch.zeros(2, 0, 8),
        torch.zeros(0, 3, 8),
        torch.zeros(2, 3, 8, dtype=torch.int64),
        torch.zeros(1, 3, 8),
        torch.zeros(2, 3, 8).log(),
        torch.full((2, 3, 8), torch.nan),
    ],
)
def test_hidden_states_of_another_shape_or_dtype_are_refused(hidden: torch.Tensor) -> None:
    """Rank, sizes, emptiness, integers, other rows than before, and what is not finite."""
    with pytest.raises(ValueError, match="got"):
        check_hidden(hidden, FACTS, batch_size=2)


@pytest.mark.parametrize(
    "prompts",
    [
        torch.zeros(3, 2, 1, 8),
        torch.zeros(4, 3, 1, 8),
        torch.zeros(4, 1, 4, 8),
        torch.zeros(4, 1, 0, 8),
        torch.zeros(4, 1, 1, 7),
        torch.zeros(2, 1, 8),
        torch.zeros(4, 1, 1, 8, dtype=torch.int64),
    ],
)
def test_deep_prompts_that_do_not_fit_are_refused(prompts: torch.Tensor) -> None:
    """One set for every block, no longer than the step."""
    with pytest.raises(ValueError, match="deep prompts"):
        check_prompts(prompts, HIDDEN, FACTS.num_blocks, position=0)


def test_deep_prompts_belong_to_the_first_position() -> None:
    """Servers would add them to the wrong tokens later."""
    with pytest.raises(ValueError, match="position 0"):
        check_prompts(torch.zeros(4, 1, 1, 8), HIDDEN, FACTS.num_blocks, position=5)


@pytest.mark.parametrize(
    "hypo_ids",
    [
        torch.zeros(2),
        torch.zeros(3, dtype=torch.int64),
        torch.tensor([0, 2]),
        torch.tensor([-1, 0]),
    ],
)
def test_hypo_ids_must_name_rows_of_the_batch(hypo_ids: torch.Tensor) -> None:
    """As int64, one for each row."""
    with pytest.raises(ValueError, match="hypo_ids"):
        check_hypo_ids(hypo_ids, batch_size=2)


def test_what_fits_passes() -> None:
    """The counterpart of the refusals."""
    check_hidden(HIDDEN, FACTS, batch_size=None)
    check_prompts(torch.zeros(4, 1, 3, 8), HIDDEN, FACTS.num_blocks, position=0)
    check_hypo_ids(torch.tensor([1, 0]), batch_size=2)
