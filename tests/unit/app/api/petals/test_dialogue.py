"""The dialogue of the Petals WebSocket, without a socket."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.petals.dialogue import (
    MAX_MESSAGE_BYTES,
    ConversationReplies,
    check_end,
    plan_turn,
    read_generate,
    read_opening,
)
from app.api.petals.fields import GenerateMessage
from app.errors import BadRequestError, MessageTooLargeError
from app.inference.requests import FinishReason, GenerationRequest, RequestId
from app.journals.entries import ConversationBegun, Entry, Produced, TurnBegun, TurnPlan
from app.journals.journal import Reading
from app.journals.notices import Notice
from swarm_client.errors import MaxLengthExceededError
from swarm_protocol.identifiers import BlockRange

BEGUN = ConversationBegun("demo", 64)


def _message(**fields: object) -> GenerateMessage:
    return read_generate(json.dumps({"type": "generate", **fields}))


def _turn(plan: TurnPlan) -> TurnBegun:
    request = GenerationRequest(
        request_id=RequestId("r"), prompt_ids=(), max_new_tokens=plan.max_new_tokens
    )
    return TurnBegun(request, plan)


def _texts(replies: ConversationReplies, *entries: Entry, start: int = 0) -> list[dict[str, Any]]:
    return [json.loads(text) for text in replies.replies(Reading(start, entries))]


def _replies(plan: TurnPlan, *entries: Entry) -> list[tuple[str, bool, int]]:
    replies = _texts(ConversationReplies("j"), BEGUN, _turn(plan), *entries)[1:]
    return [(r["outputs"], r["stop"], r["token_count"]) for r in replies]


def _token(text: str, reason: FinishReason | None = None) -> Produced:
    return Produced((5,), text, reason)


def test_opening_has_a_model_and_a_length() -> None:
    """The first message names both."""
    opening = read_opening('{"type":"open_inference_session","model":"demo","max_length":64}')

    assert (opening.model, opening.max_length) == ("demo", 64)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "broken JSON"),
        ("[]", "expected a JSON object, got a list"),
        ('{"type":"generate","max_new_tokens":1}', "expected 'open_inference_session' here"),
        ('{"type":"dance"}', "got 'dance'"),
        ('{"type":"open_inference_session","max_length":5}', "model: expected a value"),
        ('{"type":"open_inference_session","model":"demo","max_length":-1}', "max_length: should"),
        ('{"type":"open_inference_session","model":7,"max_length":1}', "model: expected a text"),
        ('{"type":"open_inference_session","model":"demo","max_length":1e300}', "max_length: "),
    ],
)
def test_opening_that_does_not_fit_gets_one_sentence(text: str, sentence: str) -> None:
    """The sentence says what was expected."""
    with pytest.raises(BadRequestError, match=sentence):
        read_opening(text)


def test_second_opening_is_refused() -> None:
    """A connection has one session."""
    with pytest.raises(BadRequestError, match="expected 'generate' here"):
        read_generate('{"type":"open_inference_session","model":"demo","max_length":64}')


def test_message_over_the_limit_is_refused_before_it_is_parsed() -> None:
    """The limit counts bytes, not characters."""
    with pytest.raises(MessageTooLargeError):
        read_opening("é" * (MAX_MESSAGE_BYTES // 2 + 1))


@pytest.mark.parametrize("lengths", [{}, {"max_length": 5, "max_new_tokens": 5}])
def test_exactly_one_length_is_needed(lengths: dict[str, int]) -> None:
    """The sentence is Petals' own."""
    with pytest.raises(BadRequestError, match="You should set `max_length` or `max_new_tokens`"):
        _message(**lengths)


@pytest.mark.parametrize("field", ["temperature", "top_p", "repetition_penalty"])
@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "much"])
def test_numbers_must_be_finite(field: str, number: str) -> None:
    """Neither infinities nor NaN reach the sampler."""
    with pytest.raises(BadRequestError, match=f"{field}: .*a .*number, got"):
        _message(max_new_tokens=1, **{field: number})


def test_one_extra_stop_text_need_not_be_a_list() -> None:
    """A text is one stop text, not a list of its characters."""
    message = _message(max_new_tokens=1, stop_sequence="###", extra_stop_sequences="</s>")

    assert message.stop == ("###", "</s>")


def test_temperature_zero_takes_the_likeliest_token() -> None:
    """It would divide by zero otherwise."""
    assert not _message(max_new_tokens=1, do_sample=1, temperature=0).sampling(9).do_sample


def test_without_a_stop_text_there_is_one_reply() -> None:
    """It comes at the end, with everything."""
    plan = plan_turn(_message(max_new_tokens=3), num_context=2, max_length=64)

    replies = _replies(plan, _token("a"), _token("b"), _token("c", FinishReason.LENGTH))

    assert plan.max_new_tokens == 3
    assert replies == [("abc", True, 3)]


def test_with_a_stop_text_each_reply_has_the_asked_number_of_tokens() -> None:
    """The engine goes on to the stop text, and replies come in between."""
    message = _message(max_new_tokens=2, stop_sequence="#")
    plan = plan_turn(message, num_context=2, max_length=64)

    tokens = [_token(text) for text in "abcd"]
    replies = _replies(plan, *tokens, _token("#", FinishReason.STOP))

    assert plan.max_new_tokens == 62
    assert replies == [("ab", False, 2), ("cd", False, 2), ("#", True, 1)]


def test_nothing_is_sent_while_a_character_is_incomplete() -> None:
    """Its tokens are counted with the reply that shows it."""
    message = _message(max_new_tokens=1, stop_sequence="#")
    plan = plan_turn(message, num_context=1, max_length=64)

    replies = _replies(plan, _token(""), _token(""), _token("é"))

    assert replies == [("é", False, 3)]


def test_full_session_without_a_stop_text_is_a_failure() -> None:
    """The chat page of Petals then reopens with a larger session."""
    message = _message(max_new_tokens=2, stop_sequence="#")
    plan = plan_turn(message, num_context=61, max_length=64)

    check_end(plan, FinishReason.STOP, 3)
    with pytest.raises(MaxLengthExceededError, match="Maximum length exceeded: prefix 64"):
        check_end(plan, FinishReason.LENGTH, 3)


def test_text_kept_back_comes_before_a_failure() -> None:
    """What was generated is the caller's, whatever happened then."""
    plan = plan_turn(_message(max_new_tokens=2, stop_sequence="#"), num_context=61, max_length=64)
    replies = ConversationReplies("j")
    _texts(replies, BEGUN, _turn(plan), _token("a"), _token("b"), _token("c"))

    (rest,) = [json.loads(text) for text in replies.rest()]

    assert (rest["outputs"], rest["stop"], rest["resume"]) == ("c", False, "j-4")
    assert list(replies.rest()) == []


def test_fewer_tokens_than_asked_for_are_a_failure() -> None:
    """Without a stop text, too, a session that ends early says so."""
    plan = plan_turn(_message(max_new_tokens=9), num_context=62, max_length=64)

    assert plan.max_new_tokens == 2
    with pytest.raises(MaxLengthExceededError):
        check_end(plan, FinishReason.LENGTH, 2)


def test_max_length_counts_the_whole_conversation() -> None:
    """As `generate(max_length=…)` inside a session of Petals."""
    plan = plan_turn(_message(max_length=12), num_context=10, max_length=64)

    check_end(plan, FinishReason.LENGTH, 2)

    assert plan.max_new_tokens == 2


def test_prompt_that_fills_the_session_is_refused() -> None:
    """There is no room for a single new token."""
    with pytest.raises(MaxLengthExceededError):
        plan_turn(_message(max_new_tokens=1), num_context=64, max_length=64)


def test_replies_tell_how_to_get_what_comes_behind_them() -> None:
    """With the number of the last entry they hold."""
    plan = plan_turn(_message(max_new_tokens=1, stop_sequence="#"), num_context=1, max_length=64)

    opening, first, second = _texts(
        ConversationReplies("j"), BEGUN, _turn(plan), _token("a"), _token(""), _token("b")
    )

    assert opening == {"ok": True, "resume": "j-0"}
    assert [first["resume"], second["resume"]] == ["j-2", "j-4"]


def test_whoever_resumes_gets_what_was_missed_and_how_many_messages_have_arrived() -> None:
    """Not a token twice."""
    plan = plan_turn(_message(max_new_tokens=1, stop_sequence="#"), num_context=1, max_length=64)
    replies = ConversationReplies("j", seen=3)

    opening, missed = _texts(
        replies, BEGUN, _turn(plan), _token("a"), _token("b"), _token("c", FinishReason.STOP)
    )

    assert opening == {"ok": True, "resume": "j-3", "turns": 1}
    assert (missed["outputs"], missed["token_count"], missed["stop"]) == ("c", 1, True)


def test_news_of_the_swarm_are_replies_without_text() -> None:
    """Clients of Petals add nothing and wait on."""
    notice = Notice("waiting_for_blocks", (BlockRange(4, 8),), left_s=29.96)

    (text,) = ConversationReplies("j").replies(Reading(0, (), (notice,)))

    assert json.loads(text) == {
        "ok": True,
        "outputs": "",
        "stop": False,
        "token_count": 0,
        "event": {"type": "waiting_for_blocks", "blocks": [[4, 8]], "left_s": 30.0},
    }


@given(
    sizes=st.lists(st.tuples(st.text(max_size=3), st.integers(1, 3)), min_size=1, max_size=20),
    per_reply=st.integers(1, 5),
    has_stop=st.booleans(),
    place=st.integers(0, 20),
)
def test_replies_hold_every_text_and_token_once(
    sizes: list[tuple[str, int]], per_reply: int, has_stop: bool, place: int
) -> None:
    """However tokens come, and wherever the connection breaks; the last reply stops."""
    stop = {"stop_sequence": "#"} if has_stop else {}
    plan = plan_turn(_message(max_new_tokens=per_reply, **stop), num_context=1, max_length=9)
    produced = [Produced((5,) * count, text) for text, count in sizes]
    produced[-1] = replace(produced[-1], finish_reason=FinishReason.STOP)
    entries: list[Entry] = [BEGUN, _turn(plan), *produced]

    replies = _texts(ConversationReplies("j"), *entries)[1:][:place]
    seen = int(replies[-1]["resume"].removeprefix("j-")) if replies else 1
    replies += _texts(ConversationReplies("j", seen=seen), *entries)[1:]

    assert "".join(reply["outputs"] for reply in replies) == "".join(text for text, _ in sizes)
    assert sum(reply["token_count"] for reply in replies) == sum(count for _, count in sizes)
    assert [reply["stop"] for reply in replies] == [False] * (len(replies) - 1) + [True]


@given(st.text(max_size=60) | st.dictionaries(st.text(max_size=9), st.none()).map(json.dumps))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Nothing but a typed error comes out of arbitrary text."""
    with pytest.raises((BadRequestError, MessageTooLargeError)):
        read_opening(text)
