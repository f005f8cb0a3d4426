"""Event streams whose connection breaks: every token once, in order, from any worker."""

import asyncio

import pytest

from app.journals.notices import Notice
from app.settings import Settings
from swarm_client.errors import NoRouteError
from swarm_client.session.events import HopLost, HopRestored, WaitingForBlocks
from swarm_protocol.identifiers import BlockRange, PeerId
from tests.harness.asgi_callers import RequestCaller
from tests.harness.scripted_engine import ScriptedEngine, http_client, running_app
from tests.unit.app.api.resuming import Heard, two_workers

CHAT = "/v1/chat/completions"
BODY = {
    "model": "demo",
    "messages": [{"role": "user", "content": "Hi"}],
    "stream": True,
    "stream_options": {"include_usage": True},
}
TEXT = "Hello, world!"
QUICK = Settings(abandoned_s=0.05)


def holding(num_tokens: float) -> ScriptedEngine:
    """An engine that makes a pause after some tokens."""
    engine = ScriptedEngine(TEXT)
    engine.num_before_hold = num_tokens
    return engine


async def until_idle(engine: ScriptedEngine) -> None:
    """Wait until nothing runs any more."""
    async with asyncio.timeout(5):
        while engine.num_open:  # noqa: ASYNC110 - conversations have no event to wait for
            await asyncio.sleep(0.005)


def check(heard: Heard) -> None:
    """Whatever happened, this is what the caller has in the end."""
    assert (heard.text, heard.finish_reasons, heard.errors) == (TEXT, ["stop"], [])
    assert heard.is_done
    assert heard.usage == {"prompt_tokens": 2, "completion_tokens": 14, "total_tokens": 16}


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_broken_stream_goes_on_behind_the_last_event(method: str) -> None:
    """By GET, as an EventSource does, or by the same POST; the generation never stopped."""
    engine, heard = holding(5), Heard()
    async with running_app(engine) as app:
        async with RequestCaller(app, CHAT, BODY) as caller:
            await heard.listen(caller, until="Hello")
            caller.leave()
            await caller.wait_served()
        engine.released.set()

        assert heard.last_id is not None
        path = CHAT if method == "POST" else f"/api/v1/streams/{heard.last_id.split('-')[0]}"
        headers = {"last-event-id": heard.last_id}
        async with RequestCaller(app, path, BODY, headers, method) as caller:
            await heard.listen(caller)

        check(heard)
        assert len(engine.requests) == 1


async def test_every_break_gives_the_same_answer() -> None:
    """After each number of events, opening, finish and end included."""
    async with running_app(ScriptedEngine(TEXT * 2)) as app:
        whole = Heard()
        async with RequestCaller(app, CHAT, BODY) as caller:
            await whole.listen(caller)
        assert whole.last_id is not None
        journal_id = whole.last_id.split("-")[0]

        for number in range(len(TEXT) + 1):
            rest = Heard(text=(TEXT * 2)[:number])
            path = f"/api/v1/streams/{journal_id}-{number}"
            async with RequestCaller(app, path, method="GET") as caller:
                await rest.listen(caller)
            assert (rest.text, rest.is_done) == (TEXT * 2, True)
            assert rest.finish_reasons == ["stop"]


async def test_without_a_number_a_stream_comes_from_its_beginning() -> None:
    """For a page that was reloaded and remembers the id alone."""
    heard = Heard()
    async with running_app(ScriptedEngine(TEXT)) as app:
        async with RequestCaller(app, CHAT, BODY) as caller:
            await Heard.listen(first := Heard(), caller)
        assert first.last_id is not None
        path = f"/api/v1/streams/{first.last_id.split('-')[0]}"
        async with RequestCaller(app, path, method="GET") as caller:
            await heard.listen(caller)

    assert heard == first


async def test_behind_the_last_event_there_is_nothing() -> None:
    """Status 204 tells an EventSource not to come again."""
    async with http_client(ScriptedEngine(TEXT)) as client:
        heard = Heard()
        heard.take((await client.post(CHAT, json=BODY)).content)
        assert heard.last_id is not None
        answer = await client.get(f"/api/v1/streams/{heard.last_id}")

    assert (answer.status_code, answer.content) == (204, b"")


async def test_a_stream_that_nobody_reads_stops_after_a_while_and_can_still_be_resumed() -> None:
    """Its memory in the swarm is free meanwhile; what was made is not made again."""
    engine, heard = holding(4), Heard()
    async with running_app(engine, QUICK) as app:
        async with RequestCaller(app, CHAT, BODY) as caller:
            await heard.listen(caller, until="Hell")
            caller.leave()
            await caller.wait_served()
        assert engine.num_open == 1
        await until_idle(engine)

        engine.script, engine.num_before_hold = TEXT, 99
        headers = {"last-event-id": heard.last_id or ""}
        async with RequestCaller(app, CHAT, BODY, headers) as caller:
            await heard.listen(caller)

        check(heard)
        assert engine.requests[1].produced_ids == tuple(map(ord, "Hell"))


async def test_another_worker_goes_on_with_a_stream_of_a_lost_one() -> None:
    """With the seed of the first one; both are asked for the same generation."""
    first, second, heard = holding(4), ScriptedEngine(TEXT), Heard()
    async with two_workers(first, second, QUICK) as (one, two):
        async with RequestCaller(one, CHAT, {**BODY, "temperature": 1}) as caller:
            await heard.listen(caller, until="Hell")
            caller.leave()
        headers = {"last-event-id": heard.last_id or ""}
        async with RequestCaller(two, CHAT, BODY, headers) as caller:
            await heard.listen(caller)

    check(heard)
    assert first.requests[0].sampling.seed == second.requests[0].sampling.seed is not None


async def test_another_worker_passes_on_what_the_first_one_still_makes() -> None:
    """A caller need not find the worker that has its stream."""
    first, heard = holding(6), Heard()
    async with two_workers(first, ScriptedEngine(""), Settings()) as (one, two):
        async with RequestCaller(one, CHAT, BODY) as caller:
            await heard.listen(caller, until="Hello,")
            caller.leave()
        headers = {"last-event-id": heard.last_id or ""}
        async with RequestCaller(two, CHAT, BODY, headers) as caller:
            first.released.set()
            await heard.listen(caller)

    check(heard)


async def test_tokens_that_were_shown_but_never_stored_are_not_shown_twice() -> None:
    """A worker that is killed takes its last batch along; its successor makes it again."""
    first, second, heard = holding(99), ScriptedEngine(TEXT), Heard()
    first.num_before_hold = 3
    async with two_workers(first, second, QUICK) as (one, two):
        async with RequestCaller(one, CHAT, BODY) as caller:
            await heard.listen(caller, until="Hel")
            caller.leave()
        await until_idle(first)
        journal_id, _, number = (heard.last_id or "").partition("-")
        heard.text, shown = TEXT[:5], f"{journal_id}-{int(number) + 2}"
        async with RequestCaller(two, CHAT, BODY, {"last-event-id": shown}) as caller:
            await heard.listen(caller)

    check(heard)


async def test_a_stopping_gateway_hands_its_streams_over() -> None:
    """The stream ends with an error that says so, and without an end; new requests get 503."""
    first, second, heard = holding(4), ScriptedEngine(TEXT), Heard()
    async with two_workers(first, second, Settings()) as (one, two):
        async with RequestCaller(one, CHAT, BODY) as caller:
            await heard.listen(caller, until="Hell")
            await one.state.context.admission.drain(0.01)
            await one.state.context.keeper.hand_over()
            while (message := await caller.next_message()).get("more_body"):
                heard.take(message["body"])
        assert (heard.errors, heard.is_done) == (["handed_over"], False)
        headers = {"last-event-id": heard.last_id or ""}
        async with RequestCaller(one, CHAT, BODY, headers) as caller:
            assert await caller.status() == 503

        async with RequestCaller(two, CHAT, BODY, headers) as caller:
            await heard.listen(caller)

    heard.errors.clear()
    check(heard)


async def test_a_stream_is_ended_for_good_by_deleting_it() -> None:
    """The stop button; a broken connection could mean anything."""
    engine, heard = holding(2), Heard()
    async with running_app(engine) as app:
        async with RequestCaller(app, CHAT, BODY) as caller:
            await heard.listen(caller, until="He")
            caller.leave()
        path = f"/api/v1/streams/{heard.last_id}"
        async with RequestCaller(app, path, method="DELETE") as caller:
            assert await caller.status() == 204

        assert engine.num_open == 0
        async with RequestCaller(app, path, method="GET") as caller:
            assert await caller.status() == 404


async def test_an_error_in_the_middle_is_kept_like_an_answer() -> None:
    """Whoever comes back later gets it, too."""
    engine = ScriptedEngine(TEXT)
    engine.error, engine.num_before_error = NoRouteError([BlockRange(4, 8)]), 2
    async with http_client(engine) as client:
        heard, again = Heard(), Heard(text="H")
        heard.take((await client.post(CHAT, json=BODY)).content)
        journal_id = (heard.last_id or "").split("-")[0]
        again.take((await client.get(f"/api/v1/streams/{journal_id}-1")).content)

    assert heard == again
    assert (heard.text, heard.errors, heard.is_done) == ("He", ["no_route"], True)


@pytest.mark.parametrize("event_id", ["x", "0" * 32 + "-x", "0" * 32 + "-1-1", ""])
async def test_an_id_that_is_none_is_refused(event_id: str) -> None:
    """With the name of the header."""
    async with http_client(ScriptedEngine()) as client:
        answer = await client.post(CHAT, json=BODY, headers={"last-event-id": event_id})

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "Last-Event-ID"


async def test_an_id_nobody_knows_is_not_found() -> None:
    """Or of somebody else, which looks the same."""
    async with http_client(ScriptedEngine()) as client:
        answer = await client.get(f"/api/v1/streams/{'0' * 32}-5")

    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "journal_not_found"


async def test_repairs_are_told_as_comments_and_counted() -> None:
    """Clients of OpenAI pass over them; the page shows them."""
    engine, heard = holding(2), Heard()
    async with running_app(engine) as app, RequestCaller(app, CHAT, BODY) as caller:
        await heard.listen(caller, until="He")
        assert engine.on_event is not None
        engine.on_event(HopLost(PeerId("QmSecret"), BlockRange(4, 8), "secret"))
        engine.on_event(WaitingForBlocks((BlockRange(4, 8),), 12.0))
        engine.on_event(HopRestored(BlockRange(4, 8), 20, 1.5, 1.25))
        engine.released.set()
        while (message := await caller.next_message()).get("more_body"):
            heard.take(message["body"])
        registry = app.state.context.metrics.registry

    check(heard)
    expected = [
        Notice("hop_lost", (BlockRange(4, 8),)),
        Notice("waiting_for_blocks", (BlockRange(4, 8),), left_s=12.0),
        Notice("hop_restored", (BlockRange(4, 8),), gap_s=1.5),
    ]
    assert len(heard.comments) == len(expected)
    assert not any("ecret" in comment for comment in heard.comments)
    lost = {"model_name": "demo", "reason": "failed"}
    assert registry.get_sample_value("swarmgate_hops_lost_total", lost) == 1
    for name, value in {
        "swarmgate_replayed_tokens_total": 20,
        "swarmgate_repair_gap_seconds_sum": 1.5,
        "swarmgate_blocks_wait_seconds_sum": 1.25,
    }.items():
        assert registry.get_sample_value(name, {"model_name": "demo"}) == value
