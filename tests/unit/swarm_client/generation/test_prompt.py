"""What is no prompt is told before anything is sent."""

import pytest
import torch

from swarm_client.generation.prompt import check_prompt


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ("Hi", "integers .batch, num_tokens., got str"),
        (torch.tensor([1, 2]), r"got \[2\] of torch.int64"),
        (torch.ones(1, 2), r"got \[1, 2\] of torch.float32"),
        (torch.zeros(1, 0, dtype=torch.long), "a token at least"),
        (torch.tensor([[1, 100]]), "from 0 to 99, got 100"),
        (torch.tensor([[1, -100]]), "from 0 to 99, got -100"),
    ],
)
def test_the_sentence_says_what_was_expected_and_what_came(inputs: object, sentence: str) -> None:
    """torch's own would speak of dimensions and of itself."""
    with pytest.raises(ValueError, match=sentence):
        check_prompt(inputs, 100, may_be_empty=False)


def test_tokens_of_the_model_pass_and_none_are_enough_for_a_session() -> None:
    """The first and the last token are the model's, too."""
    check_prompt(torch.tensor([[0, 99]]), 100, may_be_empty=False)
    check_prompt(torch.zeros(1, 0, dtype=torch.long), 100, may_be_empty=True)
