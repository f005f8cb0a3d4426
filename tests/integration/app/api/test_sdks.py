"""The official SDKs of OpenAI and Anthropic, on a real engine and real block servers."""

from pathlib import Path
from typing import Any, Final

import anthropic
import httpx2

from tests.integration.app.api.gateway import gateway_of
from tests.unit.app.api.sdk import openai_sdk_of

CHAT: Final[Any] = {
    "model": "tiny-llama",
    "messages": [{"role": "user", "content": "Once upon a time"}],
}


async def test_all_dialects_say_the_same(tiny_llama: Path) -> None:
    """Whole and streamed, of OpenAI's three and of Anthropic's."""
    async with gateway_of(tiny_llama) as gateway:
        openai = openai_sdk_of(gateway.app)
        chat = await openai.chat.completions.create(**CHAT, max_tokens=12, temperature=0)
        response = await openai.responses.create(
            model="tiny-llama", input="Once upon a time", max_output_tokens=12, temperature=0
        )
        kept = await openai.responses.retrieve(response.id)
        http = httpx2.AsyncClient(transport=httpx2.ASGITransport(gateway.app))
        claude = anthropic.AsyncAnthropic(
            api_key="none", base_url="http://gateway", http_client=http
        )
        body = {**CHAT, "max_tokens": 12, "extra_body": {"temperature": 0}}
        message: Any = await claude.messages.create(**body)
        async with claude.messages.stream(**body) as stream:
            streamed: Any = await stream.get_final_message()
        count = await claude.messages.count_tokens(**CHAT)

    text = chat.choices[0].message.content
    assert text
    assert [response.output_text, kept.output_text] == [text] * 2
    assert [message.content[0].text, streamed.content[0].text] == [text] * 2
    assert chat.usage is not None
    assert count.input_tokens == message.usage.input_tokens == chat.usage.prompt_tokens


async def test_choices_and_prompts_are_those_of_single_requests(tiny_llama: Path) -> None:
    """The same seeds draw the same tokens, whatever runs beside them."""
    options: Any = {"model": "tiny-llama", "max_tokens": 6, "temperature": 1.0}
    async with gateway_of(tiny_llama) as gateway:
        sdk = openai_sdk_of(gateway.app)
        together = await sdk.completions.create(prompt=["Once", "The cat"], n=2, seed=5, **options)
        alone = [
            (await sdk.completions.create(prompt=prompt, seed=seed, **options)).choices[0].text
            for prompt in ("Once", "The cat")
            for seed in (5, 6)
        ]

    assert [choice.text for choice in together.choices] == alone


async def test_logprobs_are_those_of_the_tokens(tiny_llama: Path) -> None:
    """The likeliest token comes first among the alternatives; bytes add up to the text."""
    async with gateway_of(tiny_llama) as gateway:
        answer = await openai_sdk_of(gateway.app).chat.completions.create(
            **CHAT, temperature=0, max_tokens=8, logprobs=True, top_logprobs=2
        )

    choice = answer.choices[0]
    assert choice.logprobs is not None
    tokens = choice.logprobs.content or []
    assert [token.top_logprobs[0].logprob for token in tokens] == [t.logprob for t in tokens]
    data = b"".join(bytes(token.bytes or ()) for token in tokens)
    assert data.decode("utf-8", "replace").startswith((choice.message.content or "")[:3])
