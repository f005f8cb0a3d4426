"""What transformers' `generate` can do, it does over remote blocks, with equal tokens."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    DynamicCache,
    LlamaForCausalLM,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.generation.streamers import BaseStreamer

from swarm_client import DistributedLlamaForCausalLM
from swarm_client.errors import InvalidParametersError, LengthNotGivenError, PaddingError
from tests.integration.swarm_client.local_model import local_model

PROMPT = torch.tensor([[1, 50, 60, 70, 80]])
TWO_PROMPTS = torch.tensor([[1, 9, 30, 44], [1, 200, 7, 90]])
UNEQUAL = torch.tensor([[0, 0, 1, 50, 60], [1, 9, 8, 7, 6], [0, 0, 1, 33, 90], [0, 1, 5, 5, 7]])


@pytest.fixture(scope="module")
def whole(tiny_llama: Path) -> LlamaForCausalLM:
    """The same model in one process, as transformers runs it."""
    return LlamaForCausalLM.from_pretrained(tiny_llama)


@pytest.fixture(scope="module", params=[["0:4"], ["0:2", "2:4"]], ids=["one", "two"])
def model(
    request: pytest.FixtureRequest, tiny_llama: Path
) -> Iterator[DistributedLlamaForCausalLM]:
    """The model over one server, then over two."""
    with local_model(tiny_llama, request.param) as distributed:
        yield distributed


def seeded(model: LlamaForCausalLM, inputs: Tensor, **options: Any) -> Tensor:
    """Generate with the global generator in a known state."""
    torch.manual_seed(11)
    tokens: Tensor = model.generate(inputs, **{"max_new_tokens": 12} | options)
    return tokens


@pytest.mark.parametrize(
    "options",
    [
        {"do_sample": True, "temperature": 0.7},
        {"do_sample": 1, "top_k": 3},
        {"do_sample": True, "top_k": 8},
        {"do_sample": True, "top_p": 0.8, "top_k": 0},
        {"do_sample": True, "min_p": 0.1, "top_k": 0},
        {"do_sample": True, "repetition_penalty": 1.4, "temperature": 1.3},
        {"do_sample": True, "num_return_sequences": 3},
        {"do_sample": False, "repetition_penalty": 1.7, "no_repeat_ngram_size": 2},
        {"do_sample": False, "use_cache": False},
        {"do_sample": False, "prefill_chunk_size": 2},
        {"do_sample": False, "num_beams": 4},
        {"do_sample": False, "num_beams": 4, "num_return_sequences": 3, "length_penalty": 0.3},
        {"do_sample": False, "num_beams": 3, "early_stopping": True, "eos_token_id": [2, 77, 78]},
        {"do_sample": True, "num_beams": 3, "temperature": 1.2},
        {"do_sample": True, "num_beams": 3, "num_return_sequences": 2, "top_k": 5},
    ],
    ids=str,
)
@pytest.mark.parametrize("inputs", [PROMPT, TWO_PROMPTS, UNEQUAL], ids=["one", "batch", "unequal"])
def test_every_way_of_decoding_equals_transformers(
    model: DistributedLlamaForCausalLM,
    whole: LlamaForCausalLM,
    inputs: Tensor,
    options: dict[str, Any],
) -> None:
    """Also for prompts of unequal length, padded on the left with a token that says so."""
    assert seeded(model, inputs, **options).equal(seeded(whole, inputs, **options))


class Banned(LogitsProcessor):  # type: ignore[misc]  # mypy does not follow transformers
    """Never lets some tokens through."""

    def __init__(self, *tokens: int) -> None:
        self.tokens = list(tokens)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        scores = scores.clone()
        scores[:, self.tokens] = -torch.inf
        return scores


class Asking(LogitsProcessor):  # type: ignore[misc]  # mypy does not follow transformers
    """Runs the model itself on other text, as contrastive processors do."""

    def __init__(self, model: LlamaForCausalLM) -> None:
        self.model = model

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        amateur: Tensor = self.model(input_ids[:, -2:]).logits[:, -1]
        return scores.log_softmax(-1) - 0.5 * amateur.log_softmax(-1)


class StopAfter(StoppingCriteria):  # type: ignore[misc]  # mypy does not follow transformers
    """Ends each row at its first even token after the prompt."""

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: object) -> Tensor:
        is_even: Tensor = input_ids[:, -1] % 2 == 0
        return is_even


class Recorder(BaseStreamer):  # type: ignore[misc]  # mypy does not follow transformers
    """Keeps what it is shown."""

    def __init__(self) -> None:
        self.shown: list[list[int]] = []
        self.has_ended = False

    def put(self, value: Tensor) -> None:
        self.shown.append(value.flatten().tolist())

    def end(self) -> None:
        self.has_ended = True


@pytest.mark.parametrize("inputs", [PROMPT, UNEQUAL], ids=["one", "unequal"])
def test_own_processors_and_criteria_are_heard(
    model: DistributedLlamaForCausalLM, whole: LlamaForCausalLM, inputs: Tensor
) -> None:
    """They see the same ids and scores as in transformers."""
    options: dict[str, Any] = {
        "logits_processor": LogitsProcessorList([Banned(*range(20, 120))]),
        "stopping_criteria": StoppingCriteriaList([StopAfter()]),
        "do_sample": True,
    }

    assert seeded(model, inputs, **options).equal(seeded(whole, inputs, **options))


def test_a_processor_may_run_the_model_itself(
    model: DistributedLlamaForCausalLM, whole: LlamaForCausalLM
) -> None:
    """What it runs is no part of the session around it."""
    with model.inference_session(max_length=30):
        tokens = seeded(model, PROMPT, logits_processor=[Asking(model)], do_sample=False)

    assert tokens.equal(seeded(whole, PROMPT, logits_processor=[Asking(whole)], do_sample=False))


def test_beam_search_with_banned_words(
    model: DistributedLlamaForCausalLM, whole: LlamaForCausalLM
) -> None:
    """The worked example: the best beams of those without the words."""
    free = seeded(model, PROMPT, num_beams=4, do_sample=False)
    words = [[token] for token in free[0, 5:8].tolist()] + [free[0, 8:10].tolist()]
    options: dict[str, Any] = {"num_beams": 4, "do_sample": False, "bad_words_ids": words}

    tokens = seeded(model, PROMPT, **options)

    assert tokens.equal(seeded(whole, PROMPT, **options))
    assert not set(tokens[0, 5:].tolist()) & {word[0] for word in words[:3]}


@pytest.mark.parametrize("do_sample", [False, True])
def test_drafts_are_checked_and_wrong_ones_forgotten(
    model: DistributedLlamaForCausalLM, whole: LlamaForCausalLM, do_sample: bool
) -> None:
    """Those of a small local model, and those found in the prompt; also within a session."""
    prompt = torch.tensor([[1, 50, 60, 70, 80, 50, 60, 70, 80, 50, 60]])
    torch.manual_seed(3)
    draft = LlamaForCausalLM(whole.config)
    for drafts in ({"assistant_model": draft}, {"prompt_lookup_num_tokens": 3}):
        options: dict[str, Any] = {"do_sample": do_sample, **drafts}
        with model.inference_session(max_length=40) as session:
            tokens = seeded(model, prompt, session=session, **options)
            assert session.position == tokens.shape[1] - 1

        assert tokens.equal(seeded(whole, prompt, **options))
        assert seeded(model, prompt, **options).equal(tokens)


def test_streamers_are_shown_the_prompt_and_each_token(model: DistributedLlamaForCausalLM) -> None:
    """As they are made."""
    streamer = Recorder()

    tokens = seeded(model, PROMPT, streamer=streamer, do_sample=False, max_new_tokens=4)

    assert streamer.shown == [PROMPT[0].tolist(), *([token] for token in tokens[0, 5:].tolist())]
    assert streamer.has_ended


def test_scores_come_with_the_tokens(
    model: DistributedLlamaForCausalLM, whole: LlamaForCausalLM
) -> None:
    """In transformers' own result classes."""
    options: dict[str, Any] = {
        "return_dict_in_generate": True,
        "output_scores": True,
        "num_beams": 3,
    }

    ours: Any = seeded(model, UNEQUAL, **options)
    theirs: Any = seeded(whole, UNEQUAL, **options)

    assert ours.sequences.equal(theirs.sequences)
    # float32 sums in another order than transformers'
    torch.testing.assert_close(ours.sequences_scores, theirs.sequences_scores, atol=1e-4, rtol=1e-4)


def test_embeddings_may_stand_for_the_prompt(
    model: DistributedLlamaForCausalLM, whole: LlamaForCausalLM
) -> None:
    """Only new tokens are returned then."""
    embeds = whole.get_input_embeddings()(PROMPT)

    tokens = model.generate(inputs_embeds=embeds, max_new_tokens=8, do_sample=False)

    assert tokens.equal(whole.generate(PROMPT, max_new_tokens=8, do_sample=False)[:, 5:])


def test_a_mask_tells_padding_apart_from_tokens_that_look_like_it(
    model: DistributedLlamaForCausalLM, whole: LlamaForCausalLM
) -> None:
    """Without one, transformers takes the padding token for padding."""
    mask = torch.tensor([[0, 1, 1, 1, 1], [1, 1, 1, 1, 1], [0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    options: dict[str, Any] = {"attention_mask": mask, "do_sample": False}

    assert seeded(model, UNEQUAL, **options).equal(seeded(whole, UNEQUAL, **options))


def test_max_length_counts_the_prompt(
    model: DistributedLlamaForCausalLM, whole: LlamaForCausalLM
) -> None:
    """As in transformers; a default of the checkpoint does not go before it."""
    model.generation_config.max_new_tokens = 90
    tokens = model.generate(PROMPT, max_length=9, do_sample=False)
    model.generation_config.max_new_tokens = None

    assert tokens.equal(whole.generate(PROMPT, max_new_tokens=4, do_sample=False))


@pytest.mark.parametrize("lengths", [{}, {"max_length": 9, "max_new_tokens": 4}])
def test_exactly_one_length_is_needed(
    model: DistributedLlamaForCausalLM, lengths: dict[str, Any]
) -> None:
    """It reserves the servers' memory."""
    with pytest.raises(LengthNotGivenError, match="You should set `max_length` or"):
        model.generate(PROMPT, **lengths)


@pytest.mark.parametrize("mask", [[[1, 1, 1, 0, 0]], [[1, 0, 1, 1, 1]], [[0, 0, 0, 0, 0]]], ids=str)
def test_padding_that_servers_would_see_is_refused(
    model: DistributedLlamaForCausalLM, mask: list[list[int]]
) -> None:
    """They would take it for text."""
    with pytest.raises(PaddingError):
        model.generate(PROMPT, attention_mask=torch.tensor(mask), max_new_tokens=2)


@pytest.mark.parametrize(
    "option",
    [
        {"output_attentions": True},
        {"output_hidden_states": True},
        {"guidance_scale": 1.5},
        {"position_ids": PROMPT},
        {"past_key_values": DynamicCache()},
    ],
    ids=lambda option: next(iter(option)),
)
def test_options_that_remote_blocks_cannot_honour_are_refused(
    model: DistributedLlamaForCausalLM, option: dict[str, Any]
) -> None:
    """Rather than ignored."""
    with pytest.raises(InvalidParametersError, match=next(iter(option))):
        model.generate(PROMPT, max_new_tokens=2, **option)


def test_the_loss_of_labelled_tokens_equals_transformers(
    model: DistributedLlamaForCausalLM, whole: LlamaForCausalLM
) -> None:
    """Of each token after those before it, but for those that count for nothing."""
    labels = PROMPT.clone()
    labels[:, :3] = -100

    with torch.no_grad():
        ours, theirs = (each(PROMPT, labels=labels).loss for each in (model, whole))

    assert ours is not None
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("pads_left", [True, False])
def test_logits_of_padded_rows_equal_transformers(
    model: DistributedLlamaForCausalLM, whole: LlamaForCausalLM, pads_left: bool
) -> None:
    """Where there are tokens; without a session padding may be on either side."""
    ids = UNEQUAL if pads_left else UNEQUAL.flip(1)
    mask = (ids != 0).long()

    with torch.no_grad():
        ours = model(ids, attention_mask=mask).logits[mask.bool()]
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        theirs = whole(ids, attention_mask=mask, position_ids=positions).logits[mask.bool()]

    # float32 sums in another order than transformers'
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
