"""Entries as values and as bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import HandedOverError, describe_error
from app.inference.requests import FinishReason, GenerationRequest, RequestId
from app.journals.entries import (
    AnswerBegun,
    Closed,
    ConversationBegun,
    Entry,
    Failed,
    JournalUnreadableError,
    Produced,
    TurnBegun,
    TurnEnded,
    TurnPlan,
    decode_entry,
    encode_entry,
    is_end,
)
from app.observability.metrics import Surface
from swarm_client.generation.parameters import SamplingParameters

REQUEST = GenerationRequest(
    request_id=RequestId("r"),
    prompt_ids=(1, 2, 3),
    max_new_tokens=9,
    sampling=SamplingParameters(do_sample=True, temperature=0.7, seed=2**63 - 1),
    stop=("\n\n", "é"),
    keeps_stop=True,
)
PLAN = TurnPlan(
    tokens_per_reply=None, wanted_tokens=1, max_new_tokens=2, num_context=3, max_length=4
)
ENTRIES: list[Entry] = [
    AnswerBegun(
        surface=Surface.CHAT, model_id="m", created_at=5, includes_usage=True, request=REQUEST
    ),
    ConversationBegun("org/model", 64),
    TurnBegun(REQUEST, PLAN),
    Produced((7, 8), "text\u2028", FinishReason.STOP),
    Produced((), ""),
    TurnEnded((1, 2)),
    Failed(describe_error(HandedOverError())),
    Closed(),
]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.kind)
def test_every_entry_comes_back_as_it_was(entry: Entry) -> None:
    """In type and value, through bytes."""
    assert decode_entry(encode_entry(entry)) == entry


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
