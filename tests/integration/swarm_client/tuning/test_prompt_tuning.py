"""Prompts tuned through real block servers equal those of a local twin."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch.nn import functional
from transformers import LlamaForCausalLM

from swarm_client import DistributedLlamaForCausalLM
from swarm_client.tuning import PromptTuning
from tests.integration.swarm_client.local_model import distributed
from tests.integration.swarm_client.tuning.local_twin import LocalTwin, assert_close, enlarge

ROWS = torch.tensor([[1, 50, 60, 70, 80], [1, 9, 30, 200, 7]])
BOTH_MODES = pytest.mark.parametrize("mode", ["ptune", "deep_ptune"])


@pytest.fixture(scope="module")
def whole(tiny_llama: Path) -> LlamaForCausalLM:
    """The same model in one process, as transformers runs it."""
    return LlamaForCausalLM.from_pretrained(tiny_llama).requires_grad_(False)


@contextmanager
def tuned(model: Path, mode: str) -> Iterator[tuple[DistributedLlamaForCausalLM, PromptTuning]]:
    """Yield a model with prompts, and these."""
    torch.manual_seed(0)
    splits = ["0:1", "1:4"]
    with distributed(
        DistributedLlamaForCausalLM, model, splits, tuning_mode=mode, pre_seq_len=3
    ) as llama:
        prompts = llama.prompt_tuning
        assert prompts is not None
        enlarge(prompts)
        yield llama, prompts


@BOTH_MODES
def test_logits_and_gradients_equal_a_local_twins(
    tiny_llama: Path, whole: LlamaForCausalLM, mode: str
) -> None:
    """Of a language model's loss over a batch, for every prompt."""
    with tuned(tiny_llama, mode) as (llama, prompts):
        twin = LocalTwin(whole, prompts)
        logits, expected = llama(ROWS).logits, twin.logits(ROWS)
        for each in (logits, expected):
            torch.autograd.backward(
                [functional.cross_entropy(each[:, :-1].flatten(0, 1), ROWS[:, 1:].flatten())]
            )

    assert logits.shape == (2, 5, whole.config.vocab_size)
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
    assert_close(prompts.prompt_embeddings.grad, twin.shallow.grad)
    if twin.deep is not None:
        assert prompts.deep_prompt_embeddings is not None
        assert_close(prompts.deep_prompt_embeddings.grad, twin.deep.grad)


@BOTH_MODES
def test_only_prompts_are_trained(tiny_llama: Path, mode: str) -> None:
    """An optimizer over all parameters leaves the model as it is."""
    with tuned(tiny_llama, mode) as (llama, prompts):
        torch.autograd.backward([llama(ROWS).logits.sum()])

        moved = {name for name, p in llama.named_parameters() if p.grad is not None}
        wanted = {name for name, p in llama.named_parameters() if p.requires_grad}
        assert moved == wanted == {f"prompt_tuning.{n}" for n, _ in prompts.named_parameters()}


@BOTH_MODES
def test_a_tuned_model_generates_what_its_twin_does(
    tiny_llama: Path, whole: LlamaForCausalLM, mode: str
) -> None:
    """Prompts take places in the session, but no tokens of the output."""
    with tuned(tiny_llama, mode) as (llama, prompts):
        tokens = llama.generate(ROWS, max_new_tokens=6, do_sample=False)

        assert tokens.equal(LocalTwin(whole, prompts).greedy(ROWS, 6))


@BOTH_MODES
def test_prompts_apply_at_the_start_of_a_session_only(
    tiny_llama: Path, whole: LlamaForCausalLM, mode: str
) -> None:
    """The session's position counts them."""
    row = ROWS[:1]
    with (
        tuned(tiny_llama, mode) as (llama, prompts),
        llama.inference_session(max_length=20) as session,
        torch.no_grad(),
    ):
        first = llama(row[:, :2]).logits
        position = session.position
        rest = llama(row[:, 2:]).logits
        expected = LocalTwin(whole, prompts).logits(row)

        assert (position, session.position) == (3 + 2, 3 + 5)
    logits = torch.cat([first, rest], dim=1)
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)


@BOTH_MODES
def test_a_generation_continues_in_its_session(
    tiny_llama: Path, whole: LlamaForCausalLM, mode: str
) -> None:
    """With new tokens in between."""
    row, more = ROWS[:1], torch.tensor([[9, 10]])
    with tuned(tiny_llama, mode) as (llama, prompts):
        twin = LocalTwin(whole, prompts)
        with llama.inference_session(max_length=40):
            first = llama.generate(row, max_new_tokens=3, do_sample=False)
            second = llama.generate(more, max_new_tokens=3, do_sample=False)

        assert first.equal(twin.greedy(row, 3))
        history = torch.cat([first, more], dim=1)
        assert torch.cat([first, second], dim=1).equal(twin.greedy(history, 3))


@BOTH_MODES
def test_tuned_prompts_are_saved_and_loaded(tiny_llama: Path, tmp_path: Path, mode: str) -> None:
    """Into a model that was made anew, with other random prompts."""
    with tuned(tiny_llama, mode) as (llama, _), torch.no_grad():
        llama.save_trained(tmp_path)
        expected = llama(ROWS).logits

    with distributed(
        DistributedLlamaForCausalLM, tiny_llama, ["0:4"], tuning_mode=mode, pre_seq_len=3
    ) as fresh:
        fresh.load_trained(tmp_path)
        with torch.no_grad():
            torch.testing.assert_close(fresh(ROWS).logits, expected, atol=1e-4, rtol=1e-4)
