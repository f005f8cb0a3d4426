"""The Responses surface on a scripted engine, as the `openai` SDK and a raw reader see it."""

import asyncio
from typing import Any

import openai
import pytest

from app.settings import Settings
from swarm_client.errors import SessionLostError
from swarm_protocol.identifiers import BlockRange, PeerId
from tests.harness.scripted_engine import ScriptedEngine, http_client, running_app
from tests.unit.app.api.resuming import two_workers
from tests.unit.app.api.sdk import openai_sdk, openai_sdk_of

PATH = "/v1/responses"
BODY: Any = {"model": "demo", "input": "Hi", "max_output_tokens": 4}


async def until_status(client: openai.AsyncOpenAI, response_id: str, status: str) -> Any:
    """Ask until a response is so far."""
    async with asyncio.timeout(5):
        while True:
            response = await client.responses.retrieve(response_id)
            if response.status == status:
                return response
            await asyncio.sleep(0.01)  # there is nothing else to wait for: callers poll


async def test_sdk_reads_a_whole_response_and_retrieves_it() -> None:
    """Text, reason and usage; what is kept is the same."""
    async with openai_sdk(ScriptedEngine()) as client:
        response = await client.responses.create(**BODY, instructions="S", metadata={"a": "b"})
        kept = await client.responses.retrieve(response.id)

    assert response.output_text == "Hell"
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens) == (3, 4)
    assert (response.instructions, response.metadata) == ("S", {"a": "b"})
    assert kept == response


async def test_sdk_reads_typed_events() -> None:
    """In OpenAI's order, numbered in a row; the last one has the whole response."""
    async with openai_sdk(ScriptedEngine("Hey")) as client:
        stream = await client.responses.create(**BODY, stream=True)
        events = [event async for event in stream]
        last: Any = events[-1]
        kept = await client.responses.retrieve(last.response.id)

    assert [event.type.removeprefix("response.") for event in events] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        *["output_text.delta"] * 3,
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert [event.sequence_number for event in events] == list(range(11))
    assert last.response.output_text == "Hey"
    assert kept == last.response


async def test_sdk_reads_the_events_of_a_kept_response_again() -> None:
    """All of them, or those behind one that it has; numbers stay what they were."""
    async with openai_sdk(ScriptedEngine("Hey")) as client:
        stream = await client.responses.create(**BODY, stream=True)
        events = [event async for event in stream]
        first: Any = events[0]
        again = await client.responses.retrieve(first.response.id, stream=True)
        rest = await client.responses.retrieve(first.response.id, stream=True, starting_after=5)
        nothing = await client.responses.retrieve(first.response.id, stream=True, starting_after=10)

        assert [event async for event in again] == events
        assert [event async for event in rest] == events[6:]
        assert [event async for event in nothing] == []


async def test_sdk_follows_a_background_response_from_where_it_left() -> None:
    """It leaves in mid-answer, and misses nothing."""
    engine = ScriptedEngine("Hey")
    engine.num_before_hold = 1
    async with openai_sdk(engine) as client:
        response = await client.responses.create(**BODY, background=True)
        await engine.is_holding.wait()
        engine.released.set()
        stream = await client.responses.retrieve(response.id, stream=True, starting_after=1)
        events = [event async for event in stream]

    assert events[0].sequence_number == 2
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == "Hey"


async def test_a_draining_gateway_still_tells_what_is_kept_and_begins_no_stream() -> None:
    """Another gateway may take the stream; what is there costs nothing."""
    engine = ScriptedEngine("Hey")
    async with running_app(engine) as app, openai_sdk_of(app) as client:
        response = await client.responses.create(**BODY)
        await app.state.context.admission.drain(0)

        kept = await client.responses.retrieve(response.id)
        with pytest.raises(openai.APIStatusError) as refused:
            await client.responses.retrieve(response.id, stream=True)

    assert kept == response
    assert refused.value.status_code == 503


async def test_a_wrong_query_is_told() -> None:
    """As a wrong field of a body is."""
    async with http_client(ScriptedEngine()) as client:
        answer = await client.get(PATH + "/resp_" + "0" * 32 + "?stream=true&starting_after=x")

    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, "starting_after")


async def test_a_dialogue_goes_on_behind_an_earlier_response() -> None:
    """Its messages and its answer come first, its instructions do not."""
    engine = ScriptedEngine("Hey")
    async with openai_sdk(engine) as client:
        first = await client.responses.create(model="demo", input="Hi", instructions="S")
        engine.script = "Yes"
        items: Any = [
            {"role": "developer", "content": "D"},
            {"type": "reasoning", "id": "rs_1", "summary": []},
            {"role": "user", "content": [{"type": "input_text", "text": "Ho"}]},
        ]
        second = await client.responses.create(
            model="demo", input=items, previous_response_id=first.id
        )

    prompts = ["".join(map(chr, request.prompt_ids)) for request in engine.requests]
    assert prompts == ["SHi", "HiHeyDHo"]
    assert (second.output_text, second.previous_response_id) == ("Yes", first.id)


async def test_a_background_response_is_asked_for_until_it_is_there() -> None:
    """Nobody reads it meanwhile, for longer than other runs may go on so."""
    engine = ScriptedEngine("Hey")
    engine.num_before_hold = 1
    settings = Settings(abandoned_s=0.01)
    async with running_app(engine, settings) as app, openai_sdk_of(app) as client:
        response = await client.responses.create(**BODY, background=True)
        await engine.is_holding.wait()
        early = await client.responses.retrieve(response.id)
        await asyncio.sleep(0.05)  # five times the patience with other runs
        engine.released.set()
        late = await until_status(client, response.id, "completed")

    assert (response.status, response.output) == ("in_progress", [])
    assert (early.status, early.output_text) == ("in_progress", "H")
    assert late.output_text == "Hey"


async def test_a_cancelled_response_ends_and_keeps_what_it_said() -> None:
    """Its memory in the swarm is free at once; cancelling twice changes nothing."""
    engine = ScriptedEngine("Hey")
    engine.num_before_hold = 1
    async with openai_sdk(engine) as client:
        response = await client.responses.create(**BODY, background=True)
        await engine.is_holding.wait()
        cancelled = await client.responses.cancel(response.id)
        num_open = engine.num_open
        again = await client.responses.cancel(response.id)
        kept = await client.responses.retrieve(response.id)

    assert (cancelled.status, cancelled.output_text, cancelled.error) == ("cancelled", "H", None)
    assert num_open == 0
    assert cancelled == again == kept


async def test_a_deleted_response_is_gone() -> None:
    """And so is one that was never stored, or never was."""
    async with openai_sdk(ScriptedEngine()) as client:
        kept = await client.responses.create(**BODY)
        await client.responses.delete(kept.id)
        unkept = await client.responses.create(**BODY, store=False)
        for response_id in (kept.id, unkept.id, "resp_" + "0" * 32, "other"):
            with pytest.raises(openai.NotFoundError, match="no response with this id"):
                await client.responses.retrieve(response_id)


async def test_another_worker_goes_on_with_a_background_response() -> None:
    """As soon as somebody asks it."""
    one, two = ScriptedEngine("Hey"), ScriptedEngine("Hey")
    one.num_before_hold = 1
    async with two_workers(one, two, Settings()) as (first, second):
        response = await openai_sdk_of(first).responses.create(**BODY, background=True)
        await one.is_holding.wait()
        await first.state.context.keeper.hand_over()
        late = await until_status(openai_sdk_of(second), response.id, "completed")

    assert late.output_text == "Hey"
    assert two.requests[0].produced_ids == (ord("H"),)


async def test_a_loss_in_mid_stream_is_a_failed_response() -> None:
    """With what it said before; it is kept so."""
    engine = ScriptedEngine("Hey")
    engine.error = SessionLostError(PeerId("QmSecret"), BlockRange(0, 4))
    engine.num_before_error = 2
    async with openai_sdk(engine) as client:
        stream = await client.responses.create(**BODY, stream=True)
        last: Any = [event async for event in stream][-1]
        kept = await client.responses.retrieve(last.response.id)

    assert (last.type, last.response.status) == ("response.failed", "failed")
    assert "a server of its route was lost" in last.response.error.message
    assert kept == last.response
    assert kept.output_text == "He"


@pytest.mark.parametrize(
    ("fields", "code", "named"),
    [
        ({"input": []}, "bad_request", "input"),
        ({"input": [{"type": "image"}]}, "bad_request", "input"),
        ({"input": [{"role": "user", "content": [{"type": []}]}]}, "bad_request", "input"),
        ({"input": [{"role": [], "content": "x"}]}, "bad_request", "input"),
        ({"max_output_tokens": 0}, "bad_request", "max_output_tokens"),
        ({"truncation": "some"}, "bad_request", "truncation"),
        ({"conversation": "conv_1"}, "unsupported_field", "conversation"),
        ({"background": True, "store": False}, "unsupported_field", "background"),
    ],
)
async def test_what_does_not_fit_is_told(fields: dict[str, Any], code: str, named: str) -> None:
    """In OpenAI's form."""
    async with http_client(ScriptedEngine()) as client:
        answer = await client.post(PATH, json={**BODY, **fields})

    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, code, named)


async def test_a_gateway_that_keeps_nothing_still_answers() -> None:
    """It says that nothing is stored, and refuses what needs it."""
    async with http_client(ScriptedEngine(), Settings(resume_s=0)) as client:
        whole = await client.post(PATH, json=BODY)
        stream = await client.post(PATH, json={**BODY, "stream": True})
        background = await client.post(PATH, json={**BODY, "background": True})

    assert whole.json()["store"] is False
    assert "response.incomplete" in stream.text or "response.completed" in stream.text
    assert background.status_code == 400
