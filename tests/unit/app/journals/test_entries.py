"""Entries as values and as bytes."""

import tracemalloc
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import HandedOverError, describe_error
from app.inference.requests import (
    FinishReason,
    GenerationRequest,
    OutputConstraint,
    RequestId,
    TokenLogprob,
)
from app.journals.entries import (
    AnswerBegun,
    Closed,
    ConversationBegun,
    Entry,
    Failed,
    JournalUnreadableError,
    Produced,
    Timed,
    TurnBegun,
    TurnEnded,
    TurnPlan,
    decode_entry,
    encode_entry,
    is_end,
)
from app.observability.metrics import Surface
from app.output.formats import OutputFormat, TextParameter
from swarm_client.generation.parameters import SamplingParameters

REQUEST = GenerationRequest(
    request_id=RequestId("r"),
    prompt_ids=(1, 2, 3),
    max_new_tokens=9,
    sampling=SamplingParameters(
        do_sample=True, temperature=0.7, seed=2**63 - 1, logit_bias=((5, -100.0), (6, 1.5))
    ),
    stop=("\n\n", "é"),
    keeps_stop=True,
    stop_token_ids=(0, 9),
    num_logprobs=2,
    constraint=OutputConstraint("json_schema", '{"type": "object"}'),
)
SEEDED = SamplingParameters(do_sample=True, seed=2**64 - 1)
PLAN = TurnPlan(
    tokens_per_reply=None, wanted_tokens=1, max_new_tokens=2, num_context=3, max_length=4
)
BEGUN = AnswerBegun(
    surface=Surface.CHAT,
    model_id="m",
    created_at=5,
    includes_usage=True,
    request=REQUEST,
    more_prompts=((4,), (5, 6)),
    num_choices=2,
    details='{"a": 1}',
    output=OutputFormat(
        "qwen_coder",
        ("add", "sub"),
        is_parallel=False,
        has_reasoning=True,
        text_parameters=(TextParameter("add", "a", is_nullable=True),),
    ),
)
ENTRIES: list[Entry] = [
    BEGUN,
    ConversationBegun("org/model", 64),
    TurnBegun(REQUEST, PLAN),
    Produced((7, 8), "text\u2028", FinishReason.STOP),
    Produced((7,), " a"),
    Produced((), "", choice=3),
    Produced((7,), "a", logprobs=(TokenLogprob(7, -0.25, ((7, -0.25), (8, -3.5))),)),
    Timed({"queue_ms": 0.25, "num_steps": 3}),
    TurnEnded((1, 2)),
    Failed(describe_error(HandedOverError())),
    Closed(),
]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.kind)
def test_every_entry_comes_back_as_it_was(entry: Entry) -> None:
    """In type and value, through bytes."""
    assert decode_entry(encode_entry(entry)) == entry


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.kind)
def test_bytes_of_an_entry_hold_no_more_memory_than_they_show(entry: Entry) -> None:
    """A store in memory keeps one per token."""
    tracemalloc.start()
    try:
        encode_entry(entry)
        before = tracemalloc.get_traced_memory()[0]
        kept = [encode_entry(entry) for _ in range(100)]
        held_bytes = (tracemalloc.get_traced_memory()[0] - before) / len(kept)
    finally:
        tracemalloc.stop()

    assert held_bytes < len(kept[0]) + 100


def test_entries_of_an_earlier_version_are_still_read() -> None:
    """What it did not know is off: generations begun before an update go on after it."""
    data = b'{"token_ids":[7,8],"text":"ab","finish_reason":null,"kind":"produced"}'
    turn = (
        b'{"request":{"request_id":"r","prompt_ids":[1],"max_new_tokens":2,"sampling":{"do_sample":'
        b'true,"temperature":0.7,"top_k":0,"top_p":1.0,"min_p":0.0,"repetition_penalty":1.0,"seed":3},'
        b'"stop":[],"keeps_stop":true,"keeps_special_tokens":true,"produced_ids":[]},"plan":'
        b'{"tokens_per_reply":null,"wanted_tokens":1,"max_new_tokens":2,"num_context":3,'
        b'"max_length":4},"kind":"turn_begun"}'
    )
    request = GenerationRequest(
        request_id=RequestId("r"),
        prompt_ids=(1,),
        max_new_tokens=2,
        sampling=SamplingParameters(do_sample=True, temperature=0.7, seed=3),
        keeps_stop=True,
        keeps_special_tokens=True,
    )

    assert decode_entry(data) == Produced((7, 8), "ab")
    assert decode_entry(turn) == TurnBegun(request, PLAN)


def test_choices_have_the_prompts_in_turn_and_seeds_of_their_own() -> None:
    """A prompt's choices are the same whatever other prompts are there."""
    begun = replace(BEGUN, request=replace(REQUEST, sampling=SEEDED))

    requests = begun.choice_requests()

    assert [request.prompt_ids for request in requests] == [(1, 2, 3)] * 2 + [(4,)] * 2 + [
        (5, 6)
    ] * 2
    assert [request.sampling.seed for request in requests] == [2**64 - 1, 0] * 3
    assert begun.num_prompt_tokens == 6


def test_two_kinds_are_an_end() -> None:
    """Nothing is written behind them."""
    assert [entry.kind for entry in ENTRIES if is_end(entry)] == ["failed", "closed"]


@given(
    st.binary(max_size=40) | st.sampled_from([b'{"kind":"later"}', b'{"kind":"produced"}', b"[]"])
)
def test_what_another_version_wrote_is_refused(data: bytes) -> None:
    """With a typed error, whatever it is."""
    with pytest.raises(JournalUnreadableError):
        decode_entry(data)


def test_numbers_out_of_range_are_refused() -> None:
    """Sampling parameters check themselves, also when they come from a store."""
    data = encode_entry(ENTRIES[2]).replace(b'"temperature":0.7', b'"temperature":-1')

    with pytest.raises(JournalUnreadableError):
        decode_entry(data)
