"""Rules of trainable prompts."""

import pytest
import torch

from swarm_client.errors import InvalidParametersError
from swarm_client.tuning import PromptTuning, TuningMode, make_prompt_tuning
from tests.unit.swarm_client.scripted_server import FACTS

HIDDEN = FACTS.hidden_size


def tuning(mode: TuningMode, dtype: torch.dtype = torch.float32) -> PromptTuning:
    torch.manual_seed(0)
    return PromptTuning(FACTS, mode=mode, pre_seq_len=3, dtype=dtype)


def test_the_prompt_goes_before_the_tokens_of_every_row() -> None:
    """And the tokens' embeddings stay as they are."""
    prompts = tuning(TuningMode.PTUNE)
    embeds = torch.randn(2, 4, HIDDEN)

    longer = prompts.prepend(embeds)

    assert longer.shape == (2, 7, HIDDEN)
    assert longer[:, 3:].equal(embeds)
    assert longer[0, :3].equal(prompts.prompt_embeddings)
    assert longer[1, :3].equal(prompts.prompt_embeddings)


def test_shallow_prompts_have_no_deep_ones() -> None:
    """Servers then get a dummy tensor."""
    assert tuning(TuningMode.PTUNE).deep_prompts(2) is None


def test_deep_prompts_are_the_columns_of_their_block() -> None:
    """The parameter is `[pre, blocks * hidden]`, block by block, as in Petals."""
    prompts = tuning(TuningMode.DEEP_PTUNE)

    deep = prompts.deep_prompts(2)

    assert deep is not None
    assert prompts.deep_prompt_embeddings is not None
    assert deep.shape == (FACTS.num_blocks, 2, 3, HIDDEN)
    columns = prompts.deep_prompt_embeddings[:, HIDDEN : 2 * HIDDEN]
    assert deep[1, 0].equal(columns)
    assert deep[1, 1].equal(columns)


def test_prompts_are_kept_in_float32_and_handed_out_in_the_dtype_of_the_model() -> None:
    """Small updates would vanish in bfloat16."""
    prompts = tuning(TuningMode.DEEP_PTUNE, torch.bfloat16)
    deep = prompts.deep_prompts(1)

    assert {parameter.dtype for parameter in prompts.parameters()} == {torch.float32}
    assert prompts.prepend(torch.zeros(1, 1, HIDDEN, dtype=torch.bfloat16)).dtype == torch.bfloat16
    assert deep is not None
    assert deep.dtype == torch.bfloat16


def test_gradients_of_all_rows_are_summed_in_the_prompt() -> None:
    """Rows share one prompt."""
    prompts = tuning(TuningMode.DEEP_PTUNE, torch.bfloat16)
    deep = prompts.deep_prompts(3)
    assert deep is not None

    torch.autograd.backward([prompts.prepend(torch.zeros(3, 1, HIDDEN)).sum(), deep.sum()])

    for parameter in prompts.parameters():
        assert parameter.grad is not None
        assert parameter.grad.eq(3).all()


def test_without_grad_mode_prompts_want_no_gradients() -> None:
    """Inference sessions refuse what they cannot give."""
    prompts = tuning(TuningMode.DEEP_PTUNE)

    with torch.no_grad():
        deep = prompts.deep_prompts(1)
        longer = prompts.prepend(torch.zeros(1, 1, HIDDEN))

    assert deep is not None
    assert not deep.requires_grad
    assert not longer.requires_grad


def test_no_mode_makes_no_prompts() -> None:
    """The default of `from_pretrained`."""
    made = make_prompt_tuning(FACTS, tuning_mode=None, pre_seq_len=0, dtype=torch.float32)

    assert made is None


@pytest.mark.parametrize("mode", ["ptune", "deep_ptune"])
def test_modes_are_chosen_by_petals_names(mode: str) -> None:
    """Notebook code keeps working."""
    made = make_prompt_tuning(FACTS, tuning_mode=mode, pre_seq_len=4, dtype=torch.float32)

    assert made is not None
    assert made.mode == mode
    assert made.pre_seq_len == 4


@pytest.mark.parametrize(
    ("mode", "pre_seq_len", "field"),
    [
        ("lora", 4, "tuning_mode"),
        ("", 0, "tuning_mode"),
        (None, 4, "pre_seq_len"),
        ("ptune", 0, "pre_seq_len"),
        ("deep_ptune", -1, "pre_seq_len"),
        ("ptune", FACTS.max_positions, "pre_seq_len"),
    ],
)
def test_what_makes_no_sense_is_refused(mode: str | None, pre_seq_len: int, field: str) -> None:
    """The error names the argument to change."""
    with pytest.raises(InvalidParametersError) as caught:
        make_prompt_tuning(FACTS, tuning_mode=mode, pre_seq_len=pre_seq_len, dtype=torch.float32)

    assert caught.value.field == field
