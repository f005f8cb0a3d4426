"""`WS /api/v2/generate` on a scripted engine."""

import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from app.errors import CLOSE_POLICY, CLOSE_TOO_BIG, CLOSE_TRY_LATER, CLOSE_UNSUPPORTED
from app.settings import LimitSettings, Settings
from swarm_client.errors import NoRouteError, SessionLostError
from swarm_protocol.identifiers import BlockRange, PeerId
from tests.harness.asgi_callers import SocketCaller
from tests.harness.scripted_engine import ScriptedEngine, running_app
from tests.harness.shared_store import shared_store

OPEN = {"type": "open_inference_session", "model": "demo", "max_length": 64}


def _num_requests(app: FastAPI, outcome: str) -> float | None:
    registry: CollectorRegistry = app.state.context.metrics.registry
    labels = {"surface": "petals_v2", "outcome": outcome}
    return registry.get_sample_value("swarmgate_requests_total", labels)


async def test_one_reply_without_a_stop_text() -> None:
    """Open, generate, one reply; without journals, just as Petals has them."""
    async with (
        running_app(ScriptedEngine(), Settings(resume_s=0)) as app,
        SocketCaller(app) as caller,
    ):
        caller.say(**OPEN)
        assert await caller.reply() == {"ok": True}

        caller.say(type="generate", inputs="Hi", max_new_tokens=4)

        expected = {"ok": True, "outputs": "Hell", "stop": True, "token_count": 4}
        assert await caller.reply() == expected


async def test_generate_may_be_sent_before_the_reply_to_open() -> None:
    """The example in the README of Petals' chat does so."""
    async with running_app(ScriptedEngine()) as app, SocketCaller(app) as caller:
        caller.say(**OPEN)
        caller.say(type="generate", inputs="Hi", max_new_tokens=1)

        assert (await caller.reply())["ok"] is True
        assert (await caller.reply())["outputs"] == "H"


async def test_replies_come_token_by_token_until_the_stop_text() -> None:
    """The stop text may consist of several tokens, and is part of the outputs."""
    async with running_app(ScriptedEngine("ab##c")) as app, SocketCaller(app) as caller:
        caller.say(**OPEN)
        caller.say(type="generate", inputs="Hi", max_new_tokens=1, stop_sequence="##")
        await caller.reply()

        replies = [await caller.reply() for _ in range(4)]

        assert [reply["outputs"] for reply in replies] == ["a", "b", "#", "#"]
        assert [reply["stop"] for reply in replies] == [False, False, False, True]


async def test_conversation_goes_on_with_further_messages() -> None:
    """The second message continues where the first ended."""
    engine = ScriptedEngine("one two")
    async with running_app(engine) as app, SocketCaller(app) as caller:
        caller.say(**OPEN)
        caller.say(type="generate", inputs="Hi", max_new_tokens=3)
        caller.say(type="generate", max_new_tokens=4)

        replies = [await caller.reply() for _ in range(3)]

        assert [reply.get("outputs") for reply in replies] == [None, "one", " two"]
        assert engine.requests[1].prompt_ids == ()


async def test_special_tokens_are_visible_and_stop_texts_kept() -> None:
    """The chat page looks for them in the outputs."""
    engine = ScriptedEngine()
    async with running_app(engine) as app, SocketCaller(app) as caller:
        caller.say(**OPEN)
        caller.say(
            type="generate", max_new_tokens=1, stop_sequence="###", extra_stop_sequences=["</s>"]
        )
        await caller.reply()
        await caller.reply()

        request = engine.requests[0]
        assert request.stop == ("###", "</s>")
        assert request.keeps_stop
        assert request.keeps_special_tokens


async def test_leaving_in_the_middle_frees_the_session_at_once() -> None:
    """Not one further token is asked of the swarm."""
    engine = ScriptedEngine("a" * 60)
    engine.num_before_hold = 3
    async with running_app(engine) as app, SocketCaller(app) as caller:
        caller.say(**OPEN)
        caller.say(type="generate", inputs="Hi", max_new_tokens=1, stop_sequence="#")
        await engine.is_holding.wait()

        caller.leave()
        await caller.wait_served()

        assert engine.num_open == 0
        assert _num_requests(app, "cancelled") == 1
        assert await app.state.gateway.store.journals.count() == 0


async def test_conversation_is_recorded_while_it_is_open() -> None:
    """So that another worker can go on with it."""
    async with (
        running_app(ScriptedEngine(), store=shared_store()) as app,
        SocketCaller(app) as caller,
    ):
        caller.say(**OPEN)
        assert (await caller.reply())["ok"] is True

        assert await app.state.gateway.store.journals.count() == 1


@pytest.mark.parametrize(
    ("first", "sentence", "code"),
    [
        ("{", "broken JSON", CLOSE_POLICY),
        ('{"type": "dance"}', "got 'dance'", CLOSE_POLICY),
        ('{"type": "generate", "max_new_tokens": 1}', "got 'generate'", CLOSE_POLICY),
        ('{"type": "open_inference_session", "model": "x", "max_length": 4}', "x", CLOSE_POLICY),
        (
            '{"type": "open_inference_session", "model": "demo", "max_length": 9999}',
            "9999 tokens are more than the 512",
            CLOSE_POLICY,
        ),
        ('"' + "x" * 262_144 + '"', "over the limit of 262144 bytes", CLOSE_TOO_BIG),
    ],
)
async def test_wrong_first_message_gets_a_sentence_and_the_end(
    first: str, sentence: str, code: int
) -> None:
    """In the dialect's own shape; nothing stays open."""
    engine = ScriptedEngine()
    async with running_app(engine) as app, SocketCaller(app) as caller:
        caller.say_text(first)

        reply = await caller.reply()

        assert reply["ok"] is False
        assert sentence in reply["traceback"]
        assert "\n" not in reply["traceback"]
        assert await caller.close_code() == code
        assert engine.num_open == 0


async def test_binary_frame_gets_a_sentence_after_the_replies_before_it() -> None:
    """Messages are answered in their order."""
    async with running_app(ScriptedEngine()) as app, SocketCaller(app) as caller:
        caller.say(**OPEN)
        caller.say_bytes(b"\x00")

        assert (await caller.reply())["ok"] is True
        assert "binary" in (await caller.reply())["traceback"]
        assert await caller.close_code() == CLOSE_UNSUPPORTED


async def test_too_many_waiting_messages_end_the_connection() -> None:
    """The queue is bounded."""
    engine = ScriptedEngine("a" * 60)
    async with running_app(engine) as app, SocketCaller(app) as caller:
        caller.say(**OPEN)
        for _ in range(30):
            caller.say(type="generate", inputs="a", max_new_tokens=1)

        replies = [await caller.reply()]
        while replies[-1]["ok"]:
            replies.append(await caller.reply())

        assert "messages are waiting" in replies[-1]["traceback"]


async def test_full_session_is_told_in_the_words_the_page_expects() -> None:
    """It reopens with a larger one then."""
    async with running_app(ScriptedEngine("a" * 99)) as app, SocketCaller(app) as caller:
        caller.say(**{**OPEN, "max_length": 4})
        caller.say(type="generate", inputs="Hi", max_new_tokens=1, stop_sequence="#")

        replies = [await caller.reply() for _ in range(4)]

        assert [reply.get("outputs") for reply in replies] == [None, "a", "a", None]
        assert "Maximum length exceeded" in replies[-1]["traceback"]


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (NoRouteError([BlockRange(4, 8)]), "no online server holds blocks 4:8"),
        (SessionLostError(PeerId("QmSecret"), BlockRange(0, 4)), "Session has expired"),
        (RuntimeError("/home/secret/path"), "something went wrong inside the gateway"),
    ],
)
async def test_failure_in_the_middle_is_told_without_inner_facts(
    error: Exception, sentence: str
) -> None:
    """Neither a peer's name nor a path nor a traceback."""
    engine = ScriptedEngine("abc")
    engine.error, engine.num_before_error = error, 1
    async with running_app(engine) as app, SocketCaller(app) as caller:
        caller.say(**OPEN)
        caller.say(type="generate", inputs="Hi", max_new_tokens=1, stop_sequence="#")
        replies = [await caller.reply() for _ in range(3)]

        assert sentence in replies[-1]["traceback"]
        assert "ecret" not in replies[-1]["traceback"]
        assert engine.num_open == 0


@pytest.mark.parametrize(
    ("origin", "is_allowed"),
    [
        ("http://gateway", True),
        ("https://GATEWAY", True),
        ("https://chat.example.org", True),
        ("https://evil.example.org", False),
        ("http://gateway:8001", False),
        ("null", False),
    ],
)
async def test_only_our_own_pages_and_listed_sites_may_connect(
    origin: str, is_allowed: bool
) -> None:
    """A foreign page is told so, and the connection ends."""
    settings = Settings(origins=("https://chat.example.org",))
    async with (
        running_app(ScriptedEngine(), settings) as app,
        SocketCaller(app, {"origin": origin}) as caller,
    ):
        caller.say(**OPEN)

        assert (await caller.reply())["ok"] is is_allowed


async def test_key_is_needed_where_keys_are_set() -> None:
    """Without it the connection is refused in words."""
    settings = Settings(api_keys=(SecretStr("correct-key"),))
    async with running_app(ScriptedEngine(), settings) as app:
        async with SocketCaller(app) as caller:
            assert "API key" in (await caller.reply())["traceback"]
            assert await caller.close_code() == CLOSE_POLICY

        async with SocketCaller(app, {"authorization": "Bearer correct-key"}) as caller:
            caller.say(**OPEN)
            assert (await caller.reply())["ok"] is True


async def test_conversations_are_limited_in_number() -> None:
    """The one too many is told to try later."""
    settings = Settings(limits=LimitSettings(max_conversations=1))
    async with (
        running_app(ScriptedEngine(), settings) as app,
        SocketCaller(app) as first,
        SocketCaller(app) as second,
    ):
        first.say(**OPEN)
        assert (await first.reply())["ok"] is True

        assert "all 1 connections" in (await second.reply())["traceback"]
        assert await second.close_code() == CLOSE_TRY_LATER


async def test_used_up_tokens_are_told() -> None:
    """A rate limit speaks the dialect, too."""
    limits = LimitSettings(address_tokens_per_minute=1, address_burst_tokens=60)
    async with (
        running_app(ScriptedEngine("a" * 99), Settings(limits=limits)) as app,
        SocketCaller(app) as caller,
    ):
        caller.say(**OPEN)
        caller.say(type="generate", inputs="Hi", max_new_tokens=50)
        caller.say(type="generate", max_new_tokens=12)
        replies = [await caller.reply() for _ in range(3)]

        assert [reply["ok"] for reply in replies] == [True, True, False]
        assert "rate limit reached" in replies[-1]["traceback"]
