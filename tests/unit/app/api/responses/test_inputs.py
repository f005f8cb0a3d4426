"""What goes into responses, as the `openai` SDK sees it."""

from typing import Any

import openai
import pytest

from tests.harness.scripted_engine import ScriptedEngine, http_client
from tests.unit.app.api.sdk import openai_sdk

ITEMS: Any = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Ho"},
    {"type": "function_call", "call_id": "c1", "name": "add", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c1", "output": "3"},
    {"role": "user", "content": [{"type": "input_text", "text": "And?"}]},
]


async def test_the_count_is_that_of_the_response() -> None:
    """Instructions and earlier responses included."""
    async with openai_sdk(ScriptedEngine("Hey")) as client:
        first = await client.responses.create(model="demo", input="Hi")
        body: Any = {
            "model": "demo",
            "input": "Ho",
            "instructions": "S",
            "previous_response_id": first.id,
        }
        count = await client.responses.input_tokens.count(**body)
        response = await client.responses.create(**body)

    assert response.usage is not None
    assert count.input_tokens == response.usage.input_tokens == len("SHiHeyHo")


async def test_sdk_lists_what_a_response_was_asked_with() -> None:
    """The newest first; as an input, in order, the items mean the same again."""
    engine = ScriptedEngine("Hey")
    async with openai_sdk(engine) as client:
        response = await client.responses.create(model="demo", input=ITEMS, instructions="S")
        asked = engine.demo.messages[1:]
        items = [item async for item in client.responses.input_items.list(response.id, order="asc")]
        newest = await client.responses.input_items.list(response.id, limit=1)
        again: Any = [item.model_dump(exclude_none=True) for item in items]
        await client.responses.create(model="demo", input=again)

    assert [item.type for item in items] == [
        *("message", "message", "function_call", "function_call_output", "message")
    ]
    assert newest.data[0] == items[-1]
    assert list(engine.demo.messages) == list(asked)


async def test_sdk_turns_the_pages_of_a_long_list() -> None:
    """Each item comes once."""
    messages: Any = [{"role": "user", "content": str(number)} for number in range(7)]
    async with openai_sdk(ScriptedEngine("Hey")) as client:
        response = await client.responses.create(model="demo", input=messages)
        items: Any = [
            item async for item in client.responses.input_items.list(response.id, limit=3)
        ]

    assert [item.content[0].text for item in items] == list("6543210")


@pytest.mark.parametrize(
    ("query", "param"), [("limit=0", "limit"), ("order=up", "order"), ("after=x", "after")]
)
async def test_what_is_no_page_is_told(query: str, param: str) -> None:
    """By the name of the field."""
    async with http_client(ScriptedEngine()) as client:
        response = await client.post("/v1/responses", json={"model": "demo", "input": "Hi"})
        path = f"/v1/responses/{response.json()['id']}/input_items"
        answer = await client.get(f"{path}?{query}")

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_what_is_not_kept_has_no_items() -> None:
    """It is a 404, as for the response itself."""
    async with openai_sdk(ScriptedEngine()) as client:
        with pytest.raises(openai.NotFoundError, match="no response with this id"):
            await client.responses.input_items.list("resp_" + "0" * 32)
