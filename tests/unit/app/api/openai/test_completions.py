"""Completions on a scripted engine, as the `openai` SDK sees them."""

import openai
import pytest

from tests.harness.scripted_engine import ScriptedEngine, http_client
from tests.unit.app.api.sdk import openai_sdk


async def test_sdk_completes_a_text() -> None:
    """Whole and as a stream; the prompt gets the model's first token."""
    engine = ScriptedEngine("abcdef")
    async with openai_sdk(engine) as client:
        whole = await client.completions.create(model="demo", prompt="Hi", max_tokens=3)
        stream = await client.completions.create(
            model="demo", prompt=["Hi"], max_tokens=3, stream=True
        )
        chunks = [chunk async for chunk in stream]

    assert (whole.choices[0].text, whole.choices[0].finish_reason) == ("abc", "length")
    assert "".join(chunk.choices[0].text for chunk in chunks) == "def"
    assert [request.prompt_ids for request in engine.requests] == [(1, 72, 105)] * 2


async def test_completion_continues_given_tokens() -> None:
    """Tokens outside the vocabulary are refused."""
    engine = ScriptedEngine()
    async with openai_sdk(engine) as client:
        await client.completions.create(model="demo", prompt=[5, 6], max_tokens=1)
        with pytest.raises(openai.BadRequestError, match="tokens from 0 to 255"):
            await client.completions.create(model="demo", prompt=[5, 256], max_tokens=1)

    assert engine.requests[0].prompt_ids == (5, 6)


@pytest.mark.parametrize("prompt", [[], ["a", [1]], [[1], []], 5, None, [True], ["a"] * 129])
async def test_prompts_are_texts_or_lists_of_tokens(prompt: object) -> None:
    """Of one kind, and not too many."""
    async with http_client(ScriptedEngine()) as client:
        answer = await client.post("/v1/completions", json={"model": "demo", "prompt": prompt})

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "prompt"
