"""The notebook-style face over real block servers equals transformers."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from swarm_client import AutoDistributedModelForCausalLM
from swarm_client.errors import MaxLengthExceededError, ModelClosedError
from swarm_protocol.errors import CheckpointError
from tests.integration.swarm_client.local_model import local_model

PROMPT = torch.tensor([[1, 50, 60, 70, 80]])
HALVES = ["0:2", "2:4"]


@pytest.fixture(scope="module")
def whole(tiny_llama: Path) -> LlamaForCausalLM:
    """The same model in one process, as transformers runs it."""
    return LlamaForCausalLM.from_pretrained(tiny_llama)


def generated(model: LlamaForCausalLM, inputs: Tensor, num_new: int) -> Tensor:
    tokens: Tensor = model.generate(inputs, max_new_tokens=num_new, do_sample=False)
    return tokens


@pytest.mark.parametrize("splits", [["0:4"], HALVES, ["0:1", "1:3", "3:4"], ["0:3", "1:4"]])
def test_greedy_tokens_equal_those_of_transformers(
    tiny_llama: Path, whole: LlamaForCausalLM, splits: list[str]
) -> None:
    """Over one, two and three servers, and with a server entered in mid-span."""
    with local_model(tiny_llama, splits) as model:
        tokens = model.generate(PROMPT, max_new_tokens=20, do_sample=False)

    assert tokens.equal(generated(whole, PROMPT, 20))


def test_a_batch_equals_transformers(tiny_llama: Path, whole: LlamaForCausalLM) -> None:
    """Rows of equal length need no padding."""
    prompts = torch.tensor([[1, 9, 30], [1, 200, 7]])

    with local_model(tiny_llama, HALVES) as model:
        tokens = model.generate(prompts, max_new_tokens=8, do_sample=False)

    assert tokens.equal(generated(whole, prompts, 8))


def test_sampling_with_the_same_seed_equals_transformers(
    tiny_llama: Path, whole: LlamaForCausalLM
) -> None:
    """The processors and the generator are transformers' own."""
    options: dict[str, Any] = {
        "max_new_tokens": 12,
        "do_sample": True,
        "top_k": 20,
        "temperature": 0.8,
    }

    with local_model(tiny_llama, HALVES) as model:
        torch.manual_seed(3)
        tokens = model.generate(PROMPT, **options)

    torch.manual_seed(3)
    assert tokens.equal(whole.generate(PROMPT, **options))


def test_a_session_continues_where_it_stopped(tiny_llama: Path, whole: LlamaForCausalLM) -> None:
    """Also with new tokens in between; what came before is not returned again."""
    with (
        local_model(tiny_llama, HALVES) as model,
        model.inference_session(max_length=40) as session,
    ):
        first = model.generate(PROMPT, max_new_tokens=4, do_sample=False)
        second = model.generate(None, max_new_tokens=3, do_sample=False)
        third = model.generate(torch.tensor([[9, 10]]), max_new_tokens=3, do_sample=False)

        assert session.position == 5 + 4 + 3 + 2 + 3 - 1
        assert session.output_ids is not None
        assert session.output_ids.equal(torch.cat([first, second, third], dim=1))
    assert torch.cat([first, second], dim=1).equal(generated(whole, PROMPT, 7))
    history = torch.cat([first, second, torch.tensor([[9, 10]])], dim=1)
    assert torch.cat([history[:, :-2], third], dim=1).equal(generated(whole, history, 3))


def test_a_session_may_be_given_by_hand(tiny_llama: Path, whole: LlamaForCausalLM) -> None:
    """Two sessions at once do not mix."""
    other_prompt = torch.tensor([[1, 3, 5]])
    with (
        local_model(tiny_llama, HALVES) as model,
        model.inference_session(max_length=30) as outer,
        model.inference_session(max_length=30) as active,
    ):
        model.generate(PROMPT, max_new_tokens=2, do_sample=False, session=outer)
        model.generate(other_prompt, max_new_tokens=2, do_sample=False)
        model.generate(max_new_tokens=2, do_sample=False, session=outer)
        model.generate(max_new_tokens=2, do_sample=False)

        assert outer.output_ids is not None
        assert active.output_ids is not None
        assert outer.output_ids.equal(generated(whole, PROMPT, 4))
        assert active.output_ids.equal(generated(whole, other_prompt, 4))


def test_a_rollback_gives_what_a_fresh_session_gives(
    tiny_llama: Path, whole: LlamaForCausalLM
) -> None:
    """Setting the position forgets the tokens after it; they are run again from `output_ids`."""
    with (
        local_model(tiny_llama, HALVES) as model,
        model.inference_session(max_length=40) as session,
    ):
        model.generate(PROMPT, max_new_tokens=6, do_sample=False)

        session.position = 3
        session.output_ids = PROMPT
        tokens = model.generate(max_new_tokens=6, do_sample=False)

    assert torch.cat([PROMPT, tokens], dim=1).equal(generated(whole, PROMPT, 6))


def test_logits_equal_those_of_transformers(tiny_llama: Path, whole: LlamaForCausalLM) -> None:
    """With and without a session, whole or only the last ones."""
    with local_model(tiny_llama, HALVES) as model, torch.no_grad():
        expected = whole(PROMPT).logits
        # float32 sums in another order than transformers': relative 1e-5 of logits up to 10
        torch.testing.assert_close(model(PROMPT).logits, expected, atol=1e-4, rtol=1e-4)
        with model.inference_session(max_length=5):
            head = model(PROMPT[:, :3]).logits
            last = model(PROMPT[:, 3:], logits_to_keep=1).logits
        torch.testing.assert_close(head, expected[:, :3], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(last, expected[:, -1:], atol=1e-4, rtol=1e-4)


def test_the_parts_have_petals_names(tiny_llama: Path) -> None:
    """Notebook code written for Petals reaches into them."""
    with local_model(tiny_llama, ["0:4"]) as model:
        hidden = model.transformer.word_embeddings(PROMPT)
        hidden = model.transformer.ln_f(model.transformer.h(hidden))

        assert model.lm_head(hidden).shape == (1, 5, model.config.vocab_size)
        assert len(model.transformer.h) == 4


def test_more_tokens_than_the_session_holds_are_refused(tiny_llama: Path) -> None:
    """In Petals' words."""
    with (
        local_model(tiny_llama, ["0:4"]) as model,
        model.inference_session(max_length=6),
        pytest.raises(MaxLengthExceededError, match="Maximum length exceeded"),
    ):
        model.generate(PROMPT, max_new_tokens=5, do_sample=False)


def test_a_closed_model_says_so(tiny_llama: Path) -> None:
    """Rather than talk of loops and threads."""
    with local_model(tiny_llama, ["0:4"]) as model:
        model.close()

        with pytest.raises(ModelClosedError, match="the model was closed"):
            model.generate(PROMPT, max_new_tokens=2)


def test_auto_picks_the_class_and_needs_a_way_into_the_swarm(
    tiny_llama: Path, tmp_path: Path
) -> None:
    """Both mistakes are told before anything is loaded."""
    with pytest.raises(ValueError, match="initial_peers"):
        AutoDistributedModelForCausalLM.from_pretrained(str(tiny_llama))
    with pytest.raises(ValueError, match="got 'nonsense'"):
        AutoDistributedModelForCausalLM.from_pretrained(str(tiny_llama), initial_peers=["nonsense"])
    with pytest.raises(CheckpointError):
        AutoDistributedModelForCausalLM.from_pretrained(
            str(tmp_path), initial_peers=["/ip4/127.0.0.1/tcp/1/p2p/x"]
        )
