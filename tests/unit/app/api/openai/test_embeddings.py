"""Embeddings on a scripted engine, as the `openai` SDK and a raw reader see them."""

from base64 import b64decode
from struct import unpack

import pytest

from tests.harness.scripted_engine import ScriptedEngine, http_client
from tests.harness.shared_store import shared_store
from tests.unit.app.api.sdk import openai_sdk

PATH = "/v1/embeddings"


async def test_sdk_reads_embeddings_in_the_order_of_the_inputs() -> None:
    """The SDK asks for base64 by itself; texts get the model's first token."""
    async with openai_sdk(ScriptedEngine()) as client:
        answer = await client.embeddings.create(model="demo", input=["AB", "E"])

    assert [each.embedding for each in answer.data] == [[44.0, 3.0], [35.0, 2.0]]
    assert [each.index for each in answer.data] == [0, 1]
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (5, 5)


async def test_tokens_are_taken_as_they_are_and_numbers_come_in_both_forms() -> None:
    """Little-endian float32 in base64; the header says what the numbers are."""
    body = {"model": "demo", "input": [5, 7], "user": "u"}
    async with http_client(ScriptedEngine()) as client:
        plain = await client.post(PATH, json=body)
        packed = await client.post(PATH, json={**body, "encoding_format": "base64"})

    assert plain.json()["data"][0]["embedding"] == [6.0, 2.0]
    data = b64decode(packed.json()["data"][0]["embedding"])
    assert unpack("<2f", data) == (6.0, 2.0)
    assert plain.headers["x-swarmgate-pooling"] == "mean of the last hidden state"
    assert plain.headers["x-swarmgate-ignored"] == "user"


async def test_nothing_of_an_embedding_is_kept() -> None:
    """Unlike answers, which can be resumed."""
    store = shared_store()
    async with http_client(ScriptedEngine(), store=store) as client:
        assert (await client.post(PATH, json={"model": "demo", "input": "a"})).status_code == 200

    assert await store.journals.count() == 0


async def test_tokens_of_inputs_are_charged() -> None:
    """To the caller's limits, all of them."""
    async with http_client(ScriptedEngine()) as client:
        answer = await client.post(PATH, json={"model": "demo", "input": [[5] * 10, [6] * 20]})

    limit, left = (answer.headers[f"x-ratelimit-{name}-tokens"] for name in ("limit", "remaining"))
    assert int(limit) - int(left) == 30


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": []}, "input"),
        ({"input": None}, "input"),
        ({"input": [256]}, "input"),
        ({"encoding_format": "int8"}, "encoding_format"),
        ({"dimensions": 7}, "dimensions"),
    ],
)
async def test_bad_fields_are_named(fields: dict[str, object], param: str) -> None:
    """As on the other surfaces of OpenAI's dialect."""
    async with http_client(ScriptedEngine()) as client:
        answer = await client.post(PATH, json={"model": "demo", "input": "a", **fields})

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
