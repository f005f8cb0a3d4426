"""Anthropic's surface on a scripted engine, as the `anthropic` SDK and a raw reader see it."""

from typing import Any

import anthropic
import pytest
from pydantic import SecretStr

from app.inference.chat_templates import ChatStyle
from app.settings import Settings
from swarm_client.errors import NoRouteError, SessionLostError
from swarm_client.generation.parameters import SamplingParameters
from swarm_protocol.identifiers import BlockRange, PeerId
from tests.harness.scripted_engine import ScriptedEngine, http_client
from tests.unit.app.api.sdk import anthropic_sdk

PATH = "/v1/messages"
BODY: Any = {
    "model": "demo",
    "max_tokens": 4,
    "messages": [{"role": "user", "content": "Hi"}],
}


async def test_sdk_reads_a_whole_message() -> None:
    """Content, reason and usage."""
    async with anthropic_sdk(ScriptedEngine()) as client:
        message = await client.messages.create(**BODY)

    assert (message.type, message.role, message.model) == ("message", "assistant", "demo")
    assert [block.to_dict() for block in message.content] == [{"type": "text", "text": "Hell"}]
    assert (message.stop_reason, message.stop_sequence) == ("max_tokens", None)
    assert (message.usage.input_tokens, message.usage.output_tokens) == (2, 4)
    assert (message.usage.cache_read_input_tokens, message.usage.cache_creation_input_tokens) == (
        0,
        0,
    )


async def test_sdk_reads_a_stream() -> None:
    """The events come in Anthropic's order, and add up to the whole message."""
    async with anthropic_sdk(ScriptedEngine("Hey")) as client:
        async with client.messages.stream(**BODY) as stream:
            kinds = [event.type async for event in stream if event.type != "text"]
        message = await stream.get_final_message()

    assert kinds == [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * 3,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert [block.to_dict() for block in message.content] == [{"type": "text", "text": "Hey"}]
    assert (message.stop_reason, message.usage.output_tokens) == ("end_turn", 4)


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_the_stop_sequence_is_named_and_cut_off(is_streamed: bool) -> None:
    """Clients act on which one it was."""
    body = {**BODY, "max_tokens": 9, "stop_sequences": ["!", "?"]}
    async with anthropic_sdk(ScriptedEngine("Hello!")) as client:
        if is_streamed:
            async with client.messages.stream(**body) as stream:
                message: Any = await stream.get_final_message()
        else:
            message = await client.messages.create(**body)

    assert message.content[0].text == "Hello"
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "!")


async def test_an_answer_without_text_has_no_content() -> None:
    """Rather than an empty block."""
    async with anthropic_sdk(ScriptedEngine("")) as client:
        whole = await client.messages.create(**BODY)
        async with client.messages.stream(**BODY) as stream:
            streamed = await stream.get_final_message()

    assert whole.content == streamed.content == []
    assert whole.stop_reason == streamed.stop_reason == "end_turn"


async def test_blocks_system_and_turns_in_a_row_become_a_chat() -> None:
    """Turns of one role are put together, as Anthropic does."""
    engine = ScriptedEngine()
    body = {
        **BODY,
        "system": [{"type": "text", "text": "S", "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {"role": "user", "content": "a"},
            {"role": "user", "content": [{"type": "text", "text": "b"}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "?", "signature": ""},
                    {"type": "text", "text": "c"},
                ],
            },
            {"role": "user", "content": "d"},
        ],
    }
    async with http_client(engine) as client:
        assert (await client.post(PATH, json=body)).status_code == 200

    assert "".join(map(chr, engine.requests[0].prompt_ids)) == "Sa\n\nbcd"


@pytest.mark.parametrize(
    ("fields", "sampling"),
    [
        ({}, SamplingParameters(do_sample=True, temperature=0.7)),
        ({"temperature": 0}, SamplingParameters(temperature=0.7)),
        (
            {"temperature": 1.0, "top_p": 0.5, "top_k": 5},
            SamplingParameters(do_sample=True, temperature=1.0, top_p=0.5, top_k=5),
        ),
    ],
)
async def test_sampling_is_the_callers_and_else_the_models(
    fields: dict[str, object], sampling: SamplingParameters
) -> None:
    """Temperature 0 takes the likeliest token."""
    engine = ScriptedEngine()
    engine.demo.chat_defaults = SamplingParameters(do_sample=True, temperature=0.7)
    async with http_client(engine) as client:
        await client.post(PATH, json={**BODY, **fields})

    assert engine.requests[0].sampling == sampling


async def test_tokens_of_a_prompt_are_counted_without_a_generation() -> None:
    """By the same rules as those of a message."""
    engine = ScriptedEngine()
    async with anthropic_sdk(engine) as client:
        count = await client.messages.count_tokens(
            model="demo", system="S", messages=BODY["messages"]
        )

    assert (count.input_tokens, engine.requests) == (3, [])


async def test_errors_are_what_the_sdk_raises() -> None:
    """Type, message and code; the status says whether to try again."""
    async with anthropic_sdk(ScriptedEngine()) as client:
        with pytest.raises(anthropic.NotFoundError, match="demo") as unknown:
            await client.messages.create(**{**BODY, "model": "other"})
        with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
            await client.messages.create(**{**BODY, "max_tokens": 0})

    assert unknown.value.body["error"]["type"] == "not_found_error"  # type: ignore[index]
    assert unknown.value.body["error"]["code"] == "unknown_model"  # type: ignore[index]


async def test_a_swarm_without_a_route_is_an_overloaded_error() -> None:
    """With 503, before any event, also when a stream was asked for."""
    engine = ScriptedEngine()
    engine.open_error = NoRouteError([BlockRange(4, 8)])
    async with anthropic_sdk(engine) as client:
        with pytest.raises(anthropic.InternalServerError, match="no online server") as raised:
            await client.messages.create(**BODY, stream=True)

    assert raised.value.status_code == 503
    assert raised.value.body["error"]["type"] == "overloaded_error"  # type: ignore[index]


async def test_a_loss_in_mid_stream_is_an_error_event() -> None:
    """The SDK raises it."""
    engine = ScriptedEngine()
    engine.error = SessionLostError(PeerId("QmSecret"), BlockRange(0, 4))
    engine.num_before_error = 2
    async with anthropic_sdk(engine) as client:
        with pytest.raises(anthropic.APIStatusError, match="a server of its route was lost"):
            async with client.messages.stream(**BODY) as stream:
                [event async for event in stream]

    assert engine.num_open == 0


@pytest.mark.parametrize(
    ("changes", "code", "named"),
    [
        ({"max_tokens": None}, "bad_request", "max_tokens"),
        ({"messages": []}, "bad_request", "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "bad_request", "messages.0.role"),
        ({"messages": [{"role": "assistant", "content": ""}]}, "bad_request", "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "bad_request", "image"),
        ({"messages": [{"role": "user", "content": [{"type": []}]}]}, "bad_request", "messages.0"),
        ({"messages": [{"role": "user", "content": 5}]}, "bad_request", "messages.0.content"),
        ({"temperature": 1.5}, "bad_request", "temperature"),
        ({"stop_sequences": [""]}, "bad_request", "stop_sequences.0"),
        ({"max_tokens": 600}, "prompt_too_long", "512"),
        ({"thinking": {"type": "yes"}}, "bad_request", "thinking.type"),
        ({"container": "x"}, "unsupported_field", "container"),
    ],
)
async def test_what_does_not_fit_is_told(changes: dict[str, Any], code: str, named: str) -> None:
    """In Anthropic's form, in one sentence."""
    async with http_client(ScriptedEngine()) as client:
        answer = await client.post(PATH, json={**BODY, **changes})

    error = answer.json()
    assert (answer.status_code, error["type"]) == (400, "error")
    assert (error["error"]["type"], error["error"]["code"]) == ("invalid_request_error", code)
    assert named in error["error"]["message"]
    assert error["request_id"] == answer.headers["x-request-id"]


async def test_fields_without_effect_are_named_in_a_header() -> None:
    """Clients send many."""
    fields = {"metadata": {"user_id": "u"}, "service_tier": "auto", "thinking": None}
    async with http_client(ScriptedEngine()) as client:
        answer = await client.post(PATH, json={**BODY, **fields})

    assert answer.headers["x-swarmgate-ignored"] == "metadata, service_tier"


async def test_an_answer_that_the_caller_began_is_continued() -> None:
    """The prompt ends in the middle of the assistant's message."""
    engine = ScriptedEngine("lo")
    turns = [*BODY["messages"], {"role": "assistant", "content": "Hel"}]
    async with anthropic_sdk(engine) as client:
        message = await client.messages.create(**{**BODY, "messages": turns})

    assert [block.to_dict() for block in message.content] == [{"type": "text", "text": "lo"}]
    assert "".join(map(chr, engine.requests[0].prompt_ids)) == "HiHel"
    assert engine.demo.prompt_wishes.continues


async def test_a_system_message_may_stand_among_the_turns() -> None:
    """It stays where it is."""
    engine = ScriptedEngine()
    turns = [{"role": "system", "content": "S"}, {"role": "user", "content": "b"}]
    async with http_client(engine) as client:
        await client.post(PATH, json={**BODY, "messages": [*BODY["messages"], *turns]})

    assert [message.role for message in engine.demo.messages] == ["user", "system", "user"]


@pytest.mark.parametrize(
    ("fields", "thinks", "ignored"),
    [
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, True, "thinking.budget_tokens"),
        ({"thinking": {"type": "disabled"}}, False, None),
        ({"thinking": {"type": "adaptive"}}, None, None),
        ({"thinking": {"type": "between_tools"}}, None, "thinking"),
        ({"output_config": {"effort": "low"}}, None, "output_config.effort"),
    ],
)
async def test_wishes_to_think_reach_a_model_that_does(
    fields: dict[str, Any], thinks: bool | None, ignored: str | None
) -> None:
    """What its template does not look at is named."""
    engine = ScriptedEngine()
    engine.demo.chat_style = ChatStyle(has_reasoning=True)
    async with http_client(engine) as client:
        answer = await client.post(PATH, json={**BODY, **fields})

    assert answer.status_code == 200
    assert engine.demo.prompt_wishes.thinks is thinks
    assert answer.headers.get("x-swarmgate-ignored") == ignored


async def test_a_model_that_cannot_think_says_so_in_the_header() -> None:
    """The answer comes all the same, as without the wish."""
    fields = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
    async with http_client(ScriptedEngine()) as client:
        answer = await client.post(PATH, json={**BODY, **fields})

    assert answer.status_code == 200
    assert answer.headers["x-swarmgate-ignored"] == "thinking, thinking.budget_tokens"


async def test_the_key_comes_in_anthropics_header() -> None:
    """A wrong one is an authentication error of that SDK."""
    settings = Settings(api_keys=(SecretStr("correct-key"),))
    async with anthropic_sdk(ScriptedEngine(), settings, "wrong-key") as client:
        with pytest.raises(anthropic.AuthenticationError, match="API key"):
            await client.messages.create(**BODY)

    async with anthropic_sdk(ScriptedEngine(), settings, "correct-key") as client:
        assert (await client.messages.create(**BODY)).content


async def test_a_broken_stream_goes_on_behind_any_event_with_an_id() -> None:
    """Every event of the rest comes, and none twice."""
    async with http_client(ScriptedEngine("Hello")) as client:
        whole = await client.post(PATH, json={**BODY, "stream": True})
        events = whole.text.split("\n\n")[:-1]
        places = [place for place, event in enumerate(events) if event.startswith("id: ")]
        rests = [
            await client.get(f"/api/v1/streams/{events[place].split()[1]}") for place in places
        ]

    assert len(places) == 6
    assert places[-1] == len(events) - 1
    for place, rest in zip(places, rests, strict=True):
        assert rest.text.split("\n\n")[:-1] == events[place + 1 :]
