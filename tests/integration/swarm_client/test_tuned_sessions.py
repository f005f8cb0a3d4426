"""Sessions of a model with tuned prompts: padding, rollback, replay. As in a local twin."""

from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from tests.harness.stuck_servers import deny_rollback
from tests.integration.swarm_client.tuning.local_twin import LocalTwin
from tests.integration.swarm_client.tuning.test_prompt_tuning import BOTH_MODES, tuned

UNEQUAL = torch.tensor([[0, 0, 1, 50, 60], [1, 9, 8, 7, 6], [0, 1, 33, 90, 44]])
ROW = torch.tensor([[1, 50, 60, 70, 80]])
MORE = torch.tensor([[9, 10]])


@pytest.fixture(scope="module")
def whole(tiny_llama: Path) -> LlamaForCausalLM:
    """The same model in one process, as transformers runs it."""
    return LlamaForCausalLM.from_pretrained(tiny_llama).requires_grad_(False)


@BOTH_MODES
def test_prompts_go_before_the_tokens_of_unequal_rows(
    tiny_llama: Path, whole: LlamaForCausalLM, mode: str
) -> None:
    """Padding is not between them."""
    with tuned(tiny_llama, mode) as (llama, prompts):
        tokens = llama.generate(UNEQUAL, max_new_tokens=6, do_sample=False)
        twin = LocalTwin(whole, prompts)

    for row, ids in zip(UNEQUAL, tokens, strict=True):
        num_padding = int((row == 0).sum())
        assert ids[num_padding:].equal(twin.greedy(row[None, num_padding:], 6)[0])


@pytest.mark.parametrize("can_roll_back", [True, False])
@BOTH_MODES
def test_a_rollback_keeps_the_prompts(
    tiny_llama: Path,
    whole: LlamaForCausalLM,
    mode: str,
    can_roll_back: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are part of the position, and are replayed where servers cannot roll back."""
    if not can_roll_back:
        deny_rollback(monkeypatch)
    with tuned(tiny_llama, mode) as (llama, prompts):
        twin = LocalTwin(whole, prompts)
        with llama.inference_session(max_length=40) as session:
            first = llama.generate(ROW, max_new_tokens=4, do_sample=False, num_beams=2)
            session.position = 3 + 4
            second = llama.generate(MORE, max_new_tokens=4, do_sample=False)
            session.position = 0
            third = llama.generate(ROW, max_new_tokens=4, do_sample=False)
            with pytest.raises(ValueError, match="trained prompts end at 3, got 2"):
                session.position = 2

    text = torch.cat([first[:, :4], MORE], dim=1)
    assert second.equal(twin.greedy(text, 4)[:, 4:])
    assert third.equal(twin.greedy(ROW, 4))
