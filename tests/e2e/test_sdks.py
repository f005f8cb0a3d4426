"""The official SDKs of OpenAI and Anthropic against the running product, surface by surface."""

import json
import time
from collections.abc import Iterator
from typing import Any, Final, Literal

import pytest
from anthropic import Anthropic
from openai import OpenAI
from pydantic import BaseModel

from tests.harness.product import Product

pytestmark = pytest.mark.timeout(90)

QUESTION: Final = "What is the capital of Japan?"
CHAT: Final[Any] = {"model": "demo", "messages": [{"role": "user", "content": QUESTION}]}


@pytest.fixture
def sdk(product: Product) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{product.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def claude(product: Product) -> Iterator[Anthropic]:
    with Anthropic(base_url=product.url, api_key="none", max_retries=0) as client:
        yield client


def text_of(message: Any) -> str:
    """Return the text of a message that has one block; streams have classes of their own."""
    (block,) = message.content
    return str(block.text)


def test_anthropic_message_is_the_same_whole_and_streamed(claude: Anthropic) -> None:
    """And its prompt has as many tokens as were counted before."""
    body = {**CHAT, "max_tokens": 40, "extra_body": {"temperature": 0}}
    count = claude.messages.count_tokens(**CHAT)
    whole = claude.messages.create(**body)
    with claude.messages.stream(**body) as stream:
        streamed = stream.get_final_message()

    assert "Tokyo" in text_of(whole)
    assert text_of(streamed) == text_of(whole)
    assert (whole.stop_reason, streamed.stop_reason) == ("end_turn", "end_turn")
    assert whole.usage.input_tokens == streamed.usage.input_tokens == count.input_tokens


def test_anthropic_stop_sequence_is_named(claude: Anthropic) -> None:
    """It is found across tokens, cut off, and told."""
    body = {**CHAT, "max_tokens": 40, "extra_body": {"temperature": 0}, "stop_sequences": ["okyo"]}
    whole = claude.messages.create(**body)
    with claude.messages.stream(**body) as stream:
        streamed = stream.get_final_message()

    assert text_of(whole).endswith("T")
    assert text_of(streamed) == text_of(whole)
    assert whole.stop_sequence == streamed.stop_sequence == "okyo"


def test_response_is_streamed_stored_and_continued(sdk: OpenAI) -> None:
    """What the events add up to is what is kept, in Redis."""
    deltas, last = [], None
    for event in sdk.responses.create(model="demo", input=QUESTION, temperature=0, stream=True):
        deltas += [event.delta] if event.type == "response.output_text.delta" else []
        last = event
    assert last is not None
    assert last.type == "response.completed"
    kept = sdk.responses.retrieve(last.response.id)
    more = sdk.responses.create(
        model="demo", input="And of France?", previous_response_id=kept.id, max_output_tokens=5
    )

    assert "".join(deltas) == kept.output_text == last.response.output_text
    assert "Tokyo" in kept.output_text
    assert more.usage is not None
    assert kept.usage is not None
    assert more.usage.input_tokens > kept.usage.total_tokens


def test_background_response_comes_without_a_reader(sdk: OpenAI) -> None:
    """The caller asks until it is there."""
    response = sdk.responses.create(model="demo", input=QUESTION, temperature=0, background=True)
    deadline = time.monotonic() + 30
    while response.status == "in_progress":
        assert time.monotonic() < deadline
        response = sdk.responses.retrieve(response.id)

    assert response.status == "completed"
    assert "Tokyo" in response.output_text


def test_background_response_is_followed_as_a_stream(sdk: OpenAI) -> None:
    """From any event on; the events add up to what is kept, and so do the items that went in."""
    response = sdk.responses.create(model="demo", input=QUESTION, temperature=0, background=True)
    events = list(sdk.responses.retrieve(response.id, stream=True))
    rest = list(sdk.responses.retrieve(response.id, stream=True, starting_after=4))
    items: Any = list(sdk.responses.input_items.list(response.id))

    last = events[-1]
    assert last.type == "response.completed"
    assert "Tokyo" in last.response.output_text
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert rest == events[5:]
    assert [item.content[0].text for item in items] == [QUESTION]


def test_anthropics_client_finds_the_model_and_begins_the_answer_for_it(claude: Anthropic) -> None:
    """What comes back is the rest."""
    (model,) = claude.models.list().data
    turns: Any = [*CHAT["messages"], {"role": "assistant", "content": "The capital of Japan is"}]
    message = claude.messages.create(
        model=model.id, messages=turns, max_tokens=20, extra_body={"temperature": 0}
    )

    assert text_of(message) == " Tokyo."


class Capital(BaseModel, extra="forbid"):
    """What is asked for."""

    city: Literal["Tokyo", "Paris"]


SCHEMA: Final[dict[str, Any]] = Capital.model_json_schema()


def test_answers_fit_the_schema_and_are_parsed(sdk: OpenAI) -> None:
    """By both of OpenAI's dialects, whole and as a stream."""
    chat = sdk.chat.completions.parse(**CHAT, response_format=Capital)
    response = sdk.responses.parse(model="demo", input=QUESTION, text_format=Capital)
    with sdk.responses.stream(model="demo", input=QUESTION, text_format=Capital) as stream:
        streamed = stream.get_final_response()

    assert isinstance(chat.choices[0].message.parsed, Capital)
    assert isinstance(response.output_parsed, Capital)
    assert isinstance(streamed.output_parsed, Capital)


def test_forced_calls_come_with_arguments_that_fit(sdk: OpenAI, claude: Anthropic) -> None:
    """As each dialect writes them down."""
    function: Any = {"name": "show", "parameters": SCHEMA}
    named: Any = {"type": "function", **function}
    tool: Any = {"name": "show", "input_schema": SCHEMA}
    chat = sdk.chat.completions.create(
        **CHAT, tools=[{"type": "function", "function": function}], tool_choice="required"
    )
    response = sdk.responses.create(
        model="demo", input=QUESTION, tools=[named], tool_choice="required"
    )
    message = claude.messages.create(
        **CHAT, max_tokens=400, tools=[tool], tool_choice={"type": "any"}
    )

    found: list[Any] = [*(chat.choices[0].message.tool_calls or []), *response.output]
    arguments = [getattr(call, "function", call).arguments for call in found]
    blocks: list[Any] = message.content
    for text in [*arguments, *(json.dumps(block.input) for block in blocks)]:
        Capital.model_validate_json(text)
    assert message.stop_reason == "tool_use"
    assert len(arguments) >= 2


def test_timings_are_told_to_whoever_asks(sdk: OpenAI) -> None:
    """A stream ends with them; hops are those of the servers that really ran."""
    stream = sdk.chat.completions.create(
        **CHAT, temperature=0, stream=True, extra_body={"include_timings": True}
    )
    *_, last = stream

    assert last.usage is not None
    timings = (last.usage.model_extra or {})["timings"]
    assert timings["num_hop_visits"] >= 2 * timings["num_steps"]  # two servers
    assert 0 < timings["hops_compute_ms"] <= timings["total_ms"]
    assert timings["tokens_per_s"] > 0


def test_choices_and_prompts_are_those_of_single_requests(sdk: OpenAI) -> None:
    """The same seeds draw the same tokens, whatever runs beside them."""
    options: Any = {"model": "demo", "max_tokens": 8, "temperature": 1.0}
    prompts = ["Once upon a time", "The cat"]
    together = sdk.completions.create(prompt=prompts, n=2, seed=5, **options)
    alone = [
        sdk.completions.create(prompt=prompt, seed=seed, **options).choices[0].text
        for prompt in prompts
        for seed in (5, 6)
    ]

    assert [choice.text for choice in together.choices] == alone


def test_logprobs_come_with_the_tokens_of_the_text(sdk: OpenAI) -> None:
    """Their bytes together are the text."""
    answer = sdk.chat.completions.create(
        **CHAT, temperature=0, max_tokens=6, logprobs=True, top_logprobs=2
    )

    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    data = b"".join(bytes(token.bytes or ()) for token in logprobs.content)
    assert data.decode().startswith((answer.choices[0].message.content or "?").rstrip())
    assert all(len(token.top_logprobs) == 2 for token in logprobs.content)
    assert all(token.logprob <= 0 for token in logprobs.content)


def test_equal_texts_have_equal_embeddings(sdk: OpenAI) -> None:
    """And others have others."""
    answer = sdk.embeddings.create(model="demo", input=["a cat", "a cat", "the capital of Japan"])
    one, same, other = (each.embedding for each in answer.data)

    assert one == same
    assert one != other


def test_the_prompt_of_a_chat_is_shown_exactly(product: Product, sdk: OpenAI) -> None:
    """Its tokens are those that the usage counts, and they read as its text."""
    _, prompt = product.post("/v1/chat/completions/render", CHAT)
    tokens = {"model": "demo", "tokens": prompt["token_ids"]}
    _, text = product.post("/detokenize", tokens)
    answer = sdk.chat.completions.create(**CHAT, max_tokens=1)

    assert QUESTION in prompt["prompt"]
    assert text["prompt"] == prompt["prompt"]
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == prompt["count"]
