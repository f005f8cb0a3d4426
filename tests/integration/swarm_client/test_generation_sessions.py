"""Sessions of the synchronous API: resumed, rolled back, lost, many at once; always as local."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from swarm_client import DistributedLlamaForCausalLM, RoutingSettings
from swarm_client.errors import (
    InvalidParametersError,
    MaxLengthExceededError,
    PaddingError,
    RollbackUnsupportedError,
    SessionClosedError,
)
from tests.harness.stuck_servers import deny_rollback
from tests.integration.swarm_client.local_model import distributed, local_model
from tests.integration.swarm_client.test_decoding import Recorder

PROMPT = torch.tensor([[1, 50, 60, 70, 80]])
MORE = torch.tensor([[9, 10, 11]])


@pytest.fixture(scope="module")
def whole(tiny_llama: Path) -> LlamaForCausalLM:
    """The same model in one process, as transformers runs it."""
    return LlamaForCausalLM.from_pretrained(tiny_llama)


@pytest.fixture(scope="module")
def model(tiny_llama: Path) -> Iterator[DistributedLlamaForCausalLM]:
    """The model over two servers."""
    with local_model(tiny_llama, ["0:2", "2:4"]) as shared:
        yield shared


@pytest.fixture(params=[True, False], ids=["servers roll back", "replay"])
def _rollback(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers that have proved rollback, and servers that have not."""
    if not request.param:
        deny_rollback(monkeypatch)


def greedy(model: LlamaForCausalLM, inputs: Tensor | None, num_new: int, **options: Any) -> Tensor:
    tokens: Tensor = model.generate(inputs, max_new_tokens=num_new, do_sample=False, **options)
    return tokens


def test_token_by_token_equals_one_call(
    model: DistributedLlamaForCausalLM, whole: LlamaForCausalLM
) -> None:
    """Step 2 of the notebook: the prompt with the first call, then nothing."""
    with model.inference_session(max_length=30) as session:
        parts = [greedy(model, PROMPT, 1, session=session)]
        parts += [greedy(model, None, 1, session=session) for _ in range(9)]

        assert session.position == 5 + 10 - 1
        assert session.last_token_id is not None
        assert session.last_token_id.equal(parts[-1])
    assert torch.cat(parts, dim=1).equal(greedy(whole, PROMPT, 10))


def test_new_text_is_fed_after_what_was_generated(
    model: DistributedLlamaForCausalLM, whole: LlamaForCausalLM
) -> None:
    """The last token of the earlier call has never run: feeding starts there."""
    with model.inference_session(max_length=40):
        first = greedy(model, PROMPT, 6)
        second = greedy(model, MORE, 6)

    context = torch.cat([first, MORE], dim=1)
    assert second.equal(greedy(whole, context, 6)[:, first.shape[1] :])


def test_max_length_counts_all_tokens_of_the_session(model: DistributedLlamaForCausalLM) -> None:
    """As Petals counts."""
    with model.inference_session(max_length=40) as session:
        greedy(model, PROMPT, 4)
        tokens = model.generate(MORE, max_length=15, do_sample=False)

        assert session.output_ids is not None
        assert session.output_ids.shape[1] == 15
    assert tokens.shape[1] == 15 - 9


def test_penalties_see_all_tokens_of_the_session(
    model: DistributedLlamaForCausalLM, whole: LlamaForCausalLM
) -> None:
    """Not only those of the call."""
    with model.inference_session(max_length=40):
        parts = [greedy(model, PROMPT, 4, repetition_penalty=1.8)]
        parts.append(greedy(model, None, 8, repetition_penalty=1.8))

    assert torch.cat(parts, dim=1).equal(greedy(whole, PROMPT, 12, repetition_penalty=1.8))


def test_a_streamer_is_not_shown_earlier_calls_again(model: DistributedLlamaForCausalLM) -> None:
    """Only the new inputs and what follows."""
    streamer = Recorder()
    with model.inference_session(max_length=40):
        greedy(model, PROMPT, 4)
        tokens = greedy(model, MORE, 2, streamer=streamer)

    assert [token for shown in streamer.shown for token in shown] == tokens[0].tolist()


@pytest.mark.usefixtures("_rollback")
@pytest.mark.parametrize("position", [0, 3, 5, 8])
def test_setting_the_position_forgets_what_follows(
    model: DistributedLlamaForCausalLM, whole: LlamaForCausalLM, position: int
) -> None:
    """The next text is generated as if it had never been there."""
    with model.inference_session(max_length=40) as session:
        first = greedy(model, PROMPT, 6)
        session.position = position
        assert session.position == position
        second = greedy(model, MORE, 6)

    context = torch.cat([first[:, :position], MORE], dim=1)
    assert second.equal(greedy(whole, context, 6)[:, position:])


@pytest.mark.usefixtures("_rollback")
def test_after_a_rollback_it_may_go_on_without_new_text(
    model: DistributedLlamaForCausalLM, whole: LlamaForCausalLM
) -> None:
    """The last token that is left is run again, because its logits are needed."""
    with model.inference_session(max_length=40) as session:
        first = greedy(model, PROMPT, 6)
        session.position = 7
        second = greedy(model, None, 6)

    assert torch.cat([first[:, :7], second], dim=1).equal(greedy(whole, first[:, :7], 6))


@pytest.mark.usefixtures("_rollback")
def test_back_where_a_call_ended_all_is_as_it_was_then(
    model: DistributedLlamaForCausalLM,
) -> None:
    """The last token of that call had not run, and belongs to the text all the same."""
    with model.inference_session(max_length=40) as session:
        first = greedy(model, PROMPT, 4)
        position = session.position
        second = greedy(model, MORE, 4)

        session.position = position

        assert session.output_ids is not None
        assert session.output_ids.equal(first)
        assert greedy(model, MORE, 4).equal(second)


def test_the_last_token_may_be_replaced(
    model: DistributedLlamaForCausalLM, whole: LlamaForCausalLM
) -> None:
    """It has not run yet."""
    with model.inference_session(max_length=40) as session:
        with pytest.raises(ValueError, match="nothing was generated yet"):
            session.last_token_id = torch.tensor([[9]])
        first = greedy(model, PROMPT, 4)
        session.last_token_id = torch.tensor([[9]])
        second = greedy(model, None, 4)

    text = torch.cat([first[:, :-1], torch.tensor([[9]])], dim=1)
    assert second.equal(greedy(whole, text, 4)[:, 9:])


@pytest.mark.usefixtures("_rollback")
def test_beams_may_be_followed_by_anything(
    model: DistributedLlamaForCausalLM, whole: LlamaForCausalLM
) -> None:
    """The session goes on from the best text, in one row or in as many beams again."""
    with model.inference_session(max_length=60):
        first = greedy(model, PROMPT, 6, num_beams=3)
        second = greedy(model, MORE, 6, num_beams=3)
        third = greedy(model, None, 4)
        fourth = greedy(model, MORE, 5, num_beams=2, num_return_sequences=2)

    assert first.equal(greedy(whole, PROMPT, 6, num_beams=3))
    text = torch.cat([first, MORE], dim=1)
    assert second.equal(greedy(whole, text, 6, num_beams=3)[:, first.shape[1] :])
    text = torch.cat([first, second], dim=1)
    assert third.equal(greedy(whole, text, 4)[:, text.shape[1] :])
    text = torch.cat([text, third], dim=1)
    expected = greedy(whole, torch.cat([text, MORE], dim=1), 5, num_beams=2, num_return_sequences=2)
    assert fourth.equal(expected[:, text.shape[1] :])


@pytest.mark.usefixtures("_rollback")
@pytest.mark.parametrize("position", [4, 7])
def test_a_beam_search_may_be_gone_back_into(
    model: DistributedLlamaForCausalLM, whole: LlamaForCausalLM, position: int
) -> None:
    """Its text has not run in one piece, which makes no difference."""
    with model.inference_session(max_length=40) as session:
        first = greedy(model, PROMPT, 6, num_beams=2)
        session.position = position
        second = greedy(model, MORE, 6)

    text = torch.cat([first[:, :position], MORE], dim=1)
    assert second.equal(greedy(whole, text, 6)[:, position:])


@pytest.mark.usefixtures("_rollback")
def test_several_answers_may_each_be_continued(
    model: DistributedLlamaForCausalLM, whole: LlamaForCausalLM
) -> None:
    """One prompt becomes as many rows as there are answers."""
    with model.inference_session(max_length=60):
        greedy(model, PROMPT, 2)
        torch.manual_seed(5)
        answers = model.generate(max_new_tokens=5, do_sample=True, num_return_sequences=3)
        further = greedy(model, None, 4)

    start = greedy(whole, PROMPT, 2)
    torch.manual_seed(5)
    expected = whole.generate(start, max_new_tokens=5, do_sample=True, num_return_sequences=3)
    assert answers.equal(expected[:, 7:])
    assert further.equal(
        greedy(whole, expected, 4, attention_mask=torch.ones_like(expected))[:, 12:]
    )


@pytest.mark.usefixtures("_rollback")
def test_a_full_session_refuses_and_stays_where_it_was(
    model: DistributedLlamaForCausalLM, whole: LlamaForCausalLM
) -> None:
    """Nothing is lost: a shorter call succeeds."""
    with model.inference_session(max_length=12) as session:
        first = greedy(model, PROMPT, 3)
        with pytest.raises(MaxLengthExceededError, match="Maximum length exceeded: prefix 12"):
            greedy(model, None, 9, num_beams=2)
        assert session.position == 7
        second = greedy(model, None, 5)

    assert torch.cat([first, second], dim=1).equal(greedy(whole, PROMPT, 8))


def test_the_manual_loop_of_the_notebook(
    model: DistributedLlamaForCausalLM, whole: LlamaForCausalLM
) -> None:
    """Step 5: own sampling over `sess.step`, `ln_f` and `lm_head`."""
    text = PROMPT
    with torch.inference_mode(), model.inference_session(max_length=30) as sess:
        while text.shape[1] < 15:
            embs = model.transformer.word_embeddings(text[:, sess.position :])
            embs = model.transformer.word_embeddings_layernorm(embs)

            h = sess.step(embs)
            h_last = model.transformer.ln_f(h[:, -1])
            logits = model.lm_head(h_last)

            next_token = logits.argmax(dim=-1)
            text = torch.cat([text, next_token.reshape(1, 1)], dim=-1)

    assert text.equal(greedy(whole, PROMPT, 10))


def search_beams(
    model: DistributedLlamaForCausalLM, num_beams: int, num_new: int, banned: list[int]
) -> Tensor:
    """Return the likeliest text without some tokens, `[num_tokens]`, by one's own beam search."""
    text = PROMPT.expand(num_beams, -1)
    scores = torch.full((num_beams,), -torch.inf)
    scores[0] = 0  # all beams begin alike: one of them is enough
    rows = None
    with torch.inference_mode(), model.inference_session(30, batch_size=num_beams) as sess:
        for _ in range(num_new):
            embs = model.transformer.word_embeddings(text[:, sess.position :])
            h = sess.step(embs, hypo_ids=rows)
            logits = model.lm_head(model.transformer.ln_f(h[:, -1]))
            log_probs = logits.log_softmax(dim=-1)
            log_probs[:, banned] = -torch.inf
            best = (scores[:, None] + log_probs).flatten().topk(num_beams)
            scores = best.values
            rows = best.indices // logits.shape[1]
            text = torch.cat([text[rows], best.indices[:, None] % logits.shape[1]], dim=1)
    return text[0]


def test_a_beam_search_of_ones_own_equals_transformers(
    model: DistributedLlamaForCausalLM, whole: LlamaForCausalLM
) -> None:
    """Words are banned, and `hypo_ids` let each beam go on from another one's KV cache."""
    banned = [2, *greedy(whole, PROMPT, 9)[0, 5:].tolist()]

    text = search_beams(model, num_beams=4, num_new=12, banned=banned)

    assert not set(text[5:].tolist()) & set(banned)
    assert text.equal(greedy(whole, PROMPT, 12, num_beams=4, suppress_tokens=banned)[0])


def test_forward_in_a_session_continues_it(
    model: DistributedLlamaForCausalLM, whole: LlamaForCausalLM
) -> None:
    """Also when generate goes on afterwards, from the ids it is told of."""
    with torch.no_grad(), model.inference_session(max_length=30) as session:
        model(PROMPT[:, :3])
        tokens = greedy(model, PROMPT, 6)

        assert session.position == 10
    assert tokens.equal(greedy(whole, PROMPT, 6))


def test_sessions_in_threads_do_not_mix(
    model: DistributedLlamaForCausalLM, whole: LlamaForCausalLM
) -> None:
    """Each thread has an active session of its own."""
    prompts = [PROMPT + shift for shift in range(8)]

    def chat(prompt: Tensor) -> Tensor:
        with model.inference_session(max_length=30):
            parts = [greedy(model, prompt, 2)]
            parts += [greedy(model, None, 2) for _ in range(4)]
        return torch.cat(parts, dim=1)

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(chat, prompts))

    expected = [greedy(whole, prompt, 10) for prompt in prompts]
    assert all(a.equal(b) for a, b in zip(answers, expected, strict=True))


async def test_sessions_in_asyncio_tasks_do_not_mix(
    model: DistributedLlamaForCausalLM, whole: LlamaForCausalLM
) -> None:
    """An active session belongs to a task, and a thread that a task waits for keeps it."""
    prompts = [PROMPT + shift for shift in range(4)]

    async def chat(prompt: Tensor) -> Tensor:
        with model.inference_session(max_length=30):
            parts = [await asyncio.to_thread(greedy, model, prompt, 2)]
            parts += [await asyncio.to_thread(greedy, model, None, 2) for _ in range(4)]
        return torch.cat(parts, dim=1)

    answers = await asyncio.gather(*map(chat, prompts))

    expected = [greedy(whole, prompt, 10) for prompt in prompts]
    assert all(a.equal(b) for a, b in zip(answers, expected, strict=True))


def test_what_a_session_cannot_continue_is_refused(model: DistributedLlamaForCausalLM) -> None:
    """Before anything is sent."""
    with model.inference_session(max_length=30) as session:
        greedy(model, PROMPT, 2)
        with pytest.raises(PaddingError):
            greedy(model, MORE, 2, attention_mask=torch.tensor([[0, 1, 1]]))
        with pytest.raises(ValueError, match="continues 1 rows"):
            greedy(model, MORE.expand(2, 3), 2)
        with pytest.raises(InvalidParametersError, match="inputs_embeds"):
            greedy(model, None, 2, inputs_embeds=torch.zeros(1, 2, 64))
        with pytest.raises(ValueError, match=r"can roll back to .*, got 9"):
            session.position = 9

        assert session.position == 6
    with pytest.raises(SessionClosedError):
        greedy(model, None, 2, session=session)


def test_more_history_than_may_be_kept_ends_rollback(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says so; the session goes on, and its beginning can be gone back to."""
    deny_rollback(monkeypatch)
    settings = RoutingSettings(max_history_bytes=6 * 64 * 4)
    with (
        distributed(DistributedLlamaForCausalLM, tiny_llama, ["0:4"], routing=settings) as model,
        model.inference_session(max_length=30) as session,
    ):
        greedy(model, PROMPT, 4)
        with pytest.raises(RollbackUnsupportedError):
            session.position = 5
        greedy(model, None, 4)

        session.position = 0
        assert greedy(model, PROMPT, 4).shape == (1, 9)
