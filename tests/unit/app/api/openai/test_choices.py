"""Several choices and several prompts in one answer of the OpenAI surfaces."""

import asyncio
from typing import Any

import pytest

from app.errors import BusyError
from app.settings import LimitSettings, Settings
from tests.harness.asgi_callers import RequestCaller
from tests.harness.scripted_engine import ScriptedEngine, http_client, running_app
from tests.unit.app.api.resuming import Heard, two_workers
from tests.unit.app.api.sdk import openai_sdk

CHAT: Any = {"model": "demo", "messages": [{"role": "user", "content": "Hi"}]}
PATH = "/v1/chat/completions"


async def test_n_choices_are_generations_with_seeds_in_a_row() -> None:
    """The prompt counts once in the usage, and every choice has its own reason."""
    engine = ScriptedEngine("abcdef")
    async with openai_sdk(engine) as client:
        answer = await client.chat.completions.create(**CHAT, n=3, seed=7, max_tokens=2)

    texts = [choice.message.content or "" for choice in answer.choices]
    assert sorted("".join(texts)) == list("abcdef")
    assert [len(text) for text in texts] == [2, 2, 2]
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert {choice.finish_reason for choice in answer.choices} == {"length"}
    assert [request.sampling.seed for request in engine.requests] == [7, 8, 9]
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (2, 6)


async def test_streamed_choices_are_told_apart_by_their_index() -> None:
    """Each begins with its role and ends with its reason; the usage comes once."""
    async with openai_sdk(ScriptedEngine("abcdef")) as client:
        stream = await client.chat.completions.create(
            **CHAT, n=2, max_tokens=3, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]

    for index in (0, 1):
        own = [c.choices[0] for c in chunks if c.choices and c.choices[0].index == index]
        assert own[0].delta.role == "assistant"
        assert len("".join(choice.delta.content or "" for choice in own)) == 3
        assert own[-1].finish_reason == "length"
    assert [chunk.usage.completion_tokens for chunk in chunks if chunk.usage] == [6]


async def test_the_first_choice_goes_ahead_until_its_first_token() -> None:
    """Servers then have the prompt in their prefix caches when the others ask for it."""
    engine = ScriptedEngine("abcd")
    engine.num_before_hold = 0
    body = {**CHAT, "n": 4, "max_tokens": 1}
    async with running_app(engine) as app, RequestCaller(app, PATH, body) as caller:
        await engine.is_holding.wait()
        num_ahead = len(engine.requests)
        engine.released.set()
        assert await caller.status() == 200

    assert (num_ahead, len(engine.requests), engine.num_open) == (1, 4, 0)


@pytest.mark.parametrize(("max_generations", "num_abreast"), [(1, 1), (3, 3), (9, 4)])
async def test_each_choice_that_runs_has_a_slot(max_generations: int, num_abreast: int) -> None:
    """So `n` gets nobody past the limit; what does not fit runs afterwards."""
    engine = ScriptedEngine("abcdefghijkl")
    engine.num_before_hold = 1
    settings = Settings(limits=LimitSettings(max_generations=max_generations))
    body = {**CHAT, "n": 6, "max_tokens": 2}
    async with (
        running_app(engine, settings) as app,
        RequestCaller(app, PATH, body) as caller,
    ):
        await engine.is_holding.wait()
        await _until_nothing_happens()
        num_running = engine.num_open
        engine.released.set()
        assert await caller.status() == 200

    assert num_running == num_abreast
    assert (len(engine.requests), engine.num_open) == (6, 0)


async def _until_nothing_happens() -> None:
    """Let all tasks run until each waits for something from outside."""
    for _ in range(50):
        await asyncio.sleep(0)


@pytest.mark.parametrize("prompt", [["Hi", "Ho"], [[72, 105], [72, 111]]])
async def test_each_of_several_prompts_is_completed(prompt: list[Any]) -> None:
    """Choices come prompt by prompt, as with OpenAI."""
    engine = ScriptedEngine("abcdefgh")
    async with openai_sdk(engine) as client:
        answer = await client.completions.create(
            model="demo", prompt=prompt, n=2, best_of=2, max_tokens=2
        )

    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert sorted(request.prompt_ids[-1] for request in engine.requests) == [105, 105, 111, 111]
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == sum(len(r.prompt_ids) for r in engine.requests) // 2


async def test_too_many_choices_over_all_prompts_are_refused() -> None:
    """Before anything is reserved."""
    body = {"model": "demo", "prompt": ["a"] * 65, "n": 2}
    async with http_client(ScriptedEngine()) as client:
        answer = await client.post("/v1/completions", json=body)

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "n")


async def test_choices_are_reserved_together_and_settled_by_what_was_used() -> None:
    """Prompt once, output as often as there are choices."""
    async with http_client(ScriptedEngine("abcdefgh")) as client:
        first = await client.post(PATH, json={**CHAT, "n": 4, "max_tokens": 100})
        second = await client.post(PATH, json={**CHAT, "max_tokens": 1})

    remaining = [int(a.headers["x-ratelimit-remaining-tokens"]) for a in (first, second)]
    limit = int(first.headers["x-ratelimit-limit-tokens"])
    assert limit - remaining[0] == 2 + 4 * 100
    assert limit - remaining[1] < 40


async def test_an_error_of_one_choice_ends_the_answer() -> None:
    """And the conversations of the others are closed."""
    engine = ScriptedEngine("abcdefgh")
    engine.error, engine.num_before_error = BusyError("things", 1), 1
    async with http_client(engine) as client:
        answer = await client.post(PATH, json={**CHAT, "n": 3, "max_tokens": 4})

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "busy")
    assert engine.num_open == 0


async def test_another_worker_goes_on_with_all_unfinished_choices() -> None:
    """Each from behind its own tokens; nothing is said twice."""
    one, two = ScriptedEngine("ab"), ScriptedEngine("??ab")
    one.num_before_hold = two.num_before_hold = 1
    body = {**CHAT, "n": 2, "seed": 1, "max_tokens": 2, "stream": True}
    heard = Heard()
    async with two_workers(one, two, Settings()) as (first, second):
        async with RequestCaller(first, PATH, body) as caller:
            await heard.listen(caller, until="b")
            await first.state.context.keeper.hand_over()
            await heard.listen_on(caller)
        two.released.set()
        path = f"/api/v1/streams/{heard.last_id}"
        async with RequestCaller(second, path, method="GET") as caller:
            await heard.listen(caller)

    assert [request.produced_ids for request in two.requests] == [(97,), (98,)]
    assert (len(heard.text), heard.finish_reasons, heard.is_done) == (4, ["length"] * 2, True)
