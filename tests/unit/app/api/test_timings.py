"""Where the time of an answer went, as callers see it."""

from typing import Any

from tests.harness.scripted_engine import ScriptedEngine, http_client
from tests.unit.app.api.sdk import anthropic_sdk, openai_sdk

CHAT: Any = {"model": "demo", "messages": [{"role": "user", "content": "Hi"}]}
PARTS = ("queue_ms", "prefill_ms", "decode_ms", "hops_ms", "head_ms", "total_ms")
HOPS = ("num_hop_visits", "hops_queue_ms", "hops_compute_ms", "hops_network_ms")
ASKED: Any = {"extra_body": {"include_timings": True}}


def check(timings: Any, *, num_tokens: int) -> None:
    """What `usage.timings` says of an answer of so many tokens, each from its own step."""
    assert set(timings) == {*PARTS, *HOPS, "tokens_per_s", "num_steps"}
    assert timings["num_steps"] == timings["num_hop_visits"] == num_tokens
    assert timings["prefill_ms"] + timings["decode_ms"] <= timings["total_ms"] + 0.02
    assert timings["tokens_per_s"] > 0


async def test_whole_answer_tells_where_its_time_went() -> None:
    """In the header that browsers' tools draw (W3C Server Timing)."""
    async with http_client(ScriptedEngine()) as client:
        answer = await client.post("/v1/chat/completions", json=CHAT)

    parts = [part.partition(";dur=") for part in answer.headers["server-timing"].split(", ")]
    assert [name for name, _, _ in parts] == [
        *("queue", "prefill", "decode", "hops", "head", "total")
    ]
    assert all(float(value) >= 0 for _, _, value in parts)


async def test_usage_has_no_timings_unless_asked() -> None:
    """OpenAI's schema knows none."""
    async with http_client(ScriptedEngine()) as client:
        answer = await client.post("/v1/chat/completions", json=CHAT)

    assert set(answer.json()["usage"]) == {"prompt_tokens", "completion_tokens", "total_tokens"}


async def test_openai_sdk_reads_timings_whole_and_streamed() -> None:
    """A stream that tells them tells its usage, too."""
    async with openai_sdk(ScriptedEngine("Hello!" * 2)) as client:
        whole = await client.chat.completions.create(**CHAT, **ASKED, max_tokens=4)
        stream = await client.chat.completions.create(**CHAT, **ASKED, max_tokens=4, stream=True)
        *_, last = [chunk async for chunk in stream]
        text = await client.completions.create(model="demo", prompt="Hi", max_tokens=4, **ASKED)

    for usage in (whole.usage, last.usage, text.usage):
        assert usage is not None
        assert usage.completion_tokens == 4
        check((usage.model_extra or {})["timings"], num_tokens=4)


async def test_responses_keep_their_timings() -> None:
    """Whole, streamed, and retrieved."""
    body: Any = {"model": "demo", "input": "Hi", "max_output_tokens": 4, **ASKED}
    async with openai_sdk(ScriptedEngine("Hello!" * 2)) as client:
        whole = await client.responses.create(**body)
        kept = await client.responses.retrieve(whole.id)
        stream = await client.responses.create(**body, stream=True)
        *_, last = [event async for event in stream]

    assert last.type == "response.incomplete"
    for response in (whole, kept, last.response):
        assert response.usage is not None
        check((response.usage.model_extra or {})["timings"], num_tokens=4)
    assert kept == whole


async def test_anthropic_sdk_reads_timings_whole_and_streamed() -> None:
    """At the end of a stream, as the numbers of tokens are."""
    async with anthropic_sdk(ScriptedEngine("Hello!" * 2)) as client:
        whole = await client.messages.create(**CHAT, **ASKED, max_tokens=4)
        stream = await client.messages.create(**CHAT, **ASKED, max_tokens=4, stream=True)
        (delta,) = [event async for event in stream if event.type == "message_delta"]

    check((whole.usage.model_extra or {})["timings"], num_tokens=4)
    check((delta.usage.model_extra or {})["timings"], num_tokens=4)


async def test_timings_of_several_choices_are_those_of_the_first() -> None:
    """Their steps overlap: a sum of them would be longer than the answer took."""
    async with http_client(ScriptedEngine("abc" * 9)) as client:
        body = {**CHAT, "n": 3, "max_tokens": 4, "include_timings": True}
        usage = (await client.post("/v1/chat/completions", json=body)).json()["usage"]

    assert usage["completion_tokens"] == 12
    check(usage["timings"], num_tokens=4)
