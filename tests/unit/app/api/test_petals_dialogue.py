"""The dialogue of the Petals WebSocket, without a socket."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.petals_dialogue import (
    MAX_MESSAGE_BYTES,
    ReplySplitter,
    read_generate,
    read_opening,
)
from app.api.petals_fields import GenerateMessage
from app.errors import BadRequestError, MessageTooLargeError
from app.inference.requests import FinishReason, GenerationEvent
from swarm_client.errors import MaxLengthExceededError


def _message(**fields: object) -> GenerateMessage:
    return read_generate(json.dumps({"type": "generate", **fields}))


def _replies(splitter: ReplySplitter, *events: GenerationEvent) -> list[tuple[str, bool, int]]:
    texts = [text for event in events for text in splitter.add(event)]
    return [(r["outputs"], r["stop"], r["token_count"]) for r in map(json.loads, texts)]


def _event(text: str, reason: FinishReason | None = None) -> GenerationEvent:
    return GenerationEvent(text, 1, reason)


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
        ('{"type":"dance"}', "got another type"),
        ('{"type":"open_inference_session","max_length":5}', "model: expected a value"),
        ('{"type":"open_inference_session","model":"demo","max_length":-1}', "max_length: should"),
        ('{"type":"open_inference_session","model":7,"max_length":1}', "model: should be a valid"),
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
    with pytest.raises(BadRequestError, match=f"{field}: should be"):
        _message(max_new_tokens=1, **{field: number})


def test_one_extra_stop_text_need_not_be_a_list() -> None:
    """A text is one stop text, not a list of its characters."""
    message = _message(max_new_tokens=1, stop_sequence="###", extra_stop_sequences="</s>")

    assert message.stop == ("###", "</s>")


def test_temperature_zero_takes_the_likeliest_token() -> None:
    """It would divide by zero otherwise."""
    assert not _message(max_new_tokens=1, do_sample=1, temperature=0).sampling().do_sample


def test_without_a_stop_text_there_is_one_reply() -> None:
    """It comes at the end, with everything."""
    splitter = ReplySplitter(_message(max_new_tokens=3), num_context=2, max_length=64)

    replies = _replies(splitter, _event("a"), _event("b"), _event("c", FinishReason.LENGTH))

    assert splitter.max_new_tokens == 3
    assert replies == [("abc", True, 3)]


def test_with_a_stop_text_each_reply_has_the_asked_number_of_tokens() -> None:
    """The engine goes on to the stop text, and replies come in between."""
    message = _message(max_new_tokens=2, stop_sequence="#")
    splitter = ReplySplitter(message, num_context=2, max_length=64)

    events = [_event(text) for text in "abcd"]
    replies = _replies(splitter, *events, _event("#", FinishReason.STOP))

    assert splitter.max_new_tokens == 62
    assert replies == [("ab", False, 2), ("cd", False, 2), ("#", True, 1)]


def test_nothing_is_sent_while_a_character_is_incomplete() -> None:
    """Its tokens are counted with the reply that shows it."""
    message = _message(max_new_tokens=1, stop_sequence="#")
    splitter = ReplySplitter(message, num_context=1, max_length=64)

    replies = _replies(splitter, _event(""), _event(""), _event("é"))

    assert replies == [("é", False, 3)]


def test_full_session_without_a_stop_text_is_a_failure_after_the_text() -> None:
    """The chat page of Petals then reopens with a larger session."""
    message = _message(max_new_tokens=2, stop_sequence="#")
    splitter = ReplySplitter(message, num_context=61, max_length=64)
    assert _replies(splitter, _event("a"), _event("b")) == [("ab", False, 2)]
    last = splitter.add(_event("c", FinishReason.LENGTH))

    assert json.loads(next(last))["outputs"] == "c"
    with pytest.raises(MaxLengthExceededError, match="Maximum length exceeded: prefix 64"):
        next(last)


def test_fewer_tokens_than_asked_for_are_a_failure() -> None:
    """Without a stop text, too, a session that ends early says so."""
    splitter = ReplySplitter(_message(max_new_tokens=9), num_context=62, max_length=64)
    list(splitter.add(_event("a")))

    assert splitter.max_new_tokens == 2
    with pytest.raises(MaxLengthExceededError):
        list(splitter.add(_event("b", FinishReason.LENGTH)))


def test_max_length_counts_the_whole_conversation() -> None:
    """As `generate(max_length=…)` inside a session of Petals."""
    splitter = ReplySplitter(_message(max_length=12), num_context=10, max_length=64)

    replies = _replies(splitter, _event("a"), _event("b", FinishReason.LENGTH))

    assert replies == [("ab", True, 2)]


def test_prompt_that_fills_the_session_is_refused() -> None:
    """There is no room for a single new token."""
    with pytest.raises(MaxLengthExceededError):
        ReplySplitter(_message(max_new_tokens=1), num_context=64, max_length=64)


@given(
    sizes=st.lists(st.tuples(st.text(max_size=3), st.integers(1, 3)), min_size=1, max_size=20),
    per_reply=st.integers(1, 5),
    has_stop=st.booleans(),
)
def test_replies_hold_every_text_and_token_once(
    sizes: list[tuple[str, int]], per_reply: int, has_stop: bool
) -> None:
    """However events are cut, their sum is what the caller gets, and the last reply stops."""
    stop = {"stop_sequence": "#"} if has_stop else {}
    splitter = ReplySplitter(
        _message(max_new_tokens=per_reply, **stop), num_context=1, max_length=9
    )
    events = [GenerationEvent(text, count) for text, count in sizes[:-1]]
    events.append(GenerationEvent(*sizes[-1], FinishReason.STOP))

    replies = _replies(splitter, *events)

    assert "".join(outputs for outputs, _, _ in replies) == "".join(text for text, _ in sizes)
    assert sum(count for _, _, count in replies) == sum(count for _, count in sizes)
    assert [stops for _, stops, _ in replies] == [False] * (len(replies) - 1) + [True]


@given(st.text(max_size=60) | st.dictionaries(st.text(max_size=9), st.none()).map(json.dumps))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Nothing but a typed error comes out of arbitrary text."""
    with pytest.raises((BadRequestError, MessageTooLargeError)):
        read_opening(text)
