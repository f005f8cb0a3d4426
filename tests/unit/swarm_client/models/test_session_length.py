"""How large a session a call of `generate` needs."""

from typing import Any

import pytest
import torch
from transformers import GenerationConfig

from swarm_client.errors import LengthNotGivenError
from swarm_client.models.session_length import wanted_length

INPUTS = torch.zeros(2, 5, dtype=torch.int64)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"max_length": 9}, 9),
        ({"max_new_tokens": 9}, 14),
        ({"generation_config": GenerationConfig(max_new_tokens=4)}, 9),
    ],
)
def test_the_length_follows_from_the_options(options: dict[str, Any], expected: int) -> None:
    """New tokens count on top of the inputs, `max_length` includes them."""
    assert wanted_length(INPUTS, options) == expected


def test_no_inputs_are_one_start_token() -> None:
    """As transformers starts."""
    assert wanted_length(None, {"max_new_tokens": 3}) == 4


@pytest.mark.parametrize("options", [{}, {"max_length": 9, "max_new_tokens": 3}])
def test_exactly_one_limit_is_needed(options: dict[str, int]) -> None:
    """In Petals' words."""
    with pytest.raises(LengthNotGivenError, match="but not both"):
        wanted_length(INPUTS, options)
