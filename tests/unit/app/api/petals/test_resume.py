"""Conversations whose connection breaks: the context stays, and every token comes once."""

import asyncio
from typing import Any

import pytest

from app.errors import CLOSE_POLICY, CLOSE_RESTART
from app.settings import Settings
from swarm_client.session.events import WaitingForBlocks
from swarm_protocol.identifiers import BlockRange
from tests.harness.asgi_callers import SocketCaller
from tests.harness.scripted_engine import ScriptedEngine, running_app
from tests.unit.app.api.resuming import two_workers

OPEN = {"type": "open_inference_session", "model": "demo", "max_length": 64}
GENERATE = {"type": "generate", "max_new_tokens": 1, "stop_sequence": "#"}
TEXT = "one two three#"
QUICK = Settings(abandoned_s=0.05)


def holding(num_tokens: int) -> ScriptedEngine:
    """An engine that makes a pause after some tokens."""
    engine = ScriptedEngine(TEXT)
    engine.num_before_hold = num_tokens
    return engine


async def opened(caller: SocketCaller, resume: str | None = None) -> dict[str, Any]:
    """Open or resume; return the reply."""
    caller.say(**OPEN, **({} if resume is None else {"resume": resume}))
    reply = await caller.reply()
    assert reply["ok"], reply
    return reply


async def replies(caller: SocketCaller, num: int) -> list[dict[str, Any]]:
    """Return the next replies."""
    return [await caller.reply() for _ in range(num)]


def text_of(received: list[dict[str, Any]]) -> str:
    """All their text."""
    return "".join(reply["outputs"] for reply in received)


async def test_a_broken_conversation_goes_on_where_it_was() -> None:
    """What was missed comes at once; the generation has not stopped, and the context is kept."""
    engine = holding(5)
    async with running_app(engine) as app:
        async with SocketCaller(app) as caller:
            await opened(caller)
            caller.say(**GENERATE, inputs="Hi")
            received = await replies(caller, 3)
            caller.vanish()
            await caller.wait_served()

        async with SocketCaller(app) as caller:
            reply = await opened(caller, received[-1]["resume"])
            engine.released.set()
            received += await replies(caller, len(TEXT) - 3)

            assert (reply["turns"], text_of(received)) == (1, TEXT)
            assert [reply["stop"] for reply in received] == [False] * (len(TEXT) - 1) + [True]
            engine.script, engine.num_before_hold = "four#", 99
            caller.say(**GENERATE)
            assert text_of(await replies(caller, 5)) == "four#"

    assert [request.produced_ids for request in engine.requests] == [(), ()]


async def test_a_message_that_did_not_arrive_is_missing_in_the_count() -> None:
    """So the caller knows what to say again."""
    async with running_app(ScriptedEngine(TEXT)) as app:
        async with SocketCaller(app) as caller:
            resume = (await opened(caller))["resume"]
            caller.vanish()
            await caller.wait_served()

        async with SocketCaller(app) as caller:
            assert (await opened(caller, resume))["turns"] == 0
            caller.say(**GENERATE, inputs="Hi")
            assert text_of(await replies(caller, len(TEXT))) == TEXT


async def test_another_worker_rebuilds_the_conversation_in_the_middle_of_a_turn() -> None:
    """From its tokens: those of earlier turns, of the prompt, and those made already."""
    first, second = ScriptedEngine("a#" + TEXT), ScriptedEngine(TEXT + "four#")
    async with two_workers(first, second, QUICK) as (one, two):
        async with SocketCaller(one) as caller:
            await opened(caller)
            caller.say(**GENERATE, inputs="Hi")
            await replies(caller, 2)
            first.num_before_hold = 5
            caller.say(**GENERATE, inputs="You")
            received = await replies(caller, 5)
            caller.vanish()
            await caller.wait_served()

        async with SocketCaller(two) as caller:
            assert (await opened(caller, received[-1]["resume"]))["turns"] == 2
            received += await replies(caller, len(TEXT) - 5)
            caller.say(**GENERATE, inputs="!")
            later = await replies(caller, 5)

    assert (text_of(received), text_of(later)) == (TEXT, "four#")
    context = tuple(map(ord, "Hia#You"))
    assert second.requests[0].prompt_ids == context
    assert second.requests[0].produced_ids == tuple(map(ord, "one t"))
    assert second.requests[1].prompt_ids == (ord("!"),)


async def test_a_conversation_between_two_turns_is_rebuilt_with_the_next_prompt() -> None:
    """Nothing runs before there is something to say."""
    first, second = ScriptedEngine("a#"), ScriptedEngine("b#")
    async with two_workers(first, second, QUICK) as (one, two):
        async with SocketCaller(one) as caller:
            await opened(caller)
            caller.say(**GENERATE, inputs="Hi")
            received = await replies(caller, 2)
            caller.vanish()

        async with SocketCaller(two) as caller:
            await opened(caller, received[-1]["resume"])
            caller.say(**GENERATE, inputs="You")
            received += await replies(caller, 2)

    assert text_of(received) == "a#b#"
    assert second.requests[0].prompt_ids == tuple(map(ord, "Hia#You"))


async def test_closing_is_for_good_and_breaking_for_a_while() -> None:
    """A page that is left needs nothing any more; a phone in a tunnel comes back."""
    engine = holding(2)
    async with running_app(engine, QUICK) as app:
        async with SocketCaller(app) as caller:
            resume = (await opened(caller))["resume"]
            caller.leave()
            await caller.wait_served()
        assert engine.num_open == 0
        async with SocketCaller(app) as caller:
            caller.say(**OPEN, resume=resume)
            assert "Session of this conversation has expired" in (await caller.reply())["traceback"]
            assert await caller.close_code() == CLOSE_POLICY

        async with SocketCaller(app) as caller:
            await opened(caller)
            caller.vanish()
            await caller.wait_served()
        assert engine.num_open == 1
        async with asyncio.timeout(5):
            while engine.num_open:  # noqa: ASYNC110 - conversations have no event to wait for
                await asyncio.sleep(0.005)


async def test_a_stopping_gateway_hands_idle_conversations_over_at_once() -> None:
    """And the others when the time to end is over; both with close code 1012."""
    first, second = holding(3), ScriptedEngine(TEXT)
    async with two_workers(first, second, Settings()) as (one, two):
        async with SocketCaller(one) as idle, SocketCaller(one) as busy:
            resumes = [(await opened(idle))["resume"]]
            await opened(busy)
            busy.say(**GENERATE, inputs="Hi")
            received = await replies(busy, 3)
            draining = asyncio.create_task(one.state.context.admission.drain(0.05))
            assert await idle.close_code() == CLOSE_RESTART
            await draining
            await one.state.context.keeper.hand_over()
            assert await busy.close_code() == CLOSE_RESTART
            resumes.append(received[-1]["resume"])

        async with SocketCaller(two) as idle, SocketCaller(two) as busy:
            assert (await opened(idle, resumes[0]))["turns"] == 0
            assert (await opened(busy, resumes[1]))["turns"] == 1
            received += await replies(busy, len(TEXT) - 3)

    assert text_of(received) == TEXT


async def test_repairs_are_told_as_replies_without_text() -> None:
    """Between the others."""
    engine = holding(1)
    async with running_app(engine) as app, SocketCaller(app) as caller:
        await opened(caller)
        caller.say(**GENERATE, inputs="Hi")
        await caller.reply()
        assert engine.on_event is not None
        engine.on_event(WaitingForBlocks((BlockRange(4, 8),), 12.0))

        reply = await caller.reply()

        assert (reply["outputs"], reply["stop"], reply["token_count"]) == ("", False, 0)
        assert reply["event"] == {
            "type": "waiting_for_blocks",
            "blocks": [[4, 8]],
            "left_s": 12.0,
        }


@pytest.mark.parametrize("resume", ["x", "0" * 31 + "-1", 5])
async def test_a_resume_token_that_is_none_is_refused(resume: object) -> None:
    """In one sentence that names the field."""
    async with running_app(ScriptedEngine()) as app, SocketCaller(app) as caller:
        caller.say(**OPEN, resume=resume)

        assert "resume" in (await caller.reply())["traceback"]
