"""`POST /api/v1/generate` on a scripted engine."""

from typing import Any

import pytest

from app.settings import LimitSettings, Settings
from app.state.redis import RedisStateStore
from swarm_client.errors import CapacityError, NoRouteError
from swarm_protocol.identifiers import BlockRange, PeerId
from tests.harness.asgi_callers import RequestCaller
from tests.harness.scripted_engine import ScriptedEngine, http_client, running_app

PATH = "/api/v1/generate"
FIELDS = {"model": "demo", "inputs": "Hi", "max_new_tokens": "4"}


@pytest.mark.parametrize(
    "arguments",
    [
        {"data": FIELDS},
        {"files": {name: (None, value) for name, value in FIELDS.items()}},
        {"json": {**FIELDS, "max_new_tokens": 4}},
        {"params": FIELDS},
        {"params": {"model": "demo"}, "data": {**FIELDS, "model": "other"}},
    ],
    ids=["form", "multipart", "json", "query", "query-wins"],
)
async def test_arguments_come_as_form_query_or_json(arguments: dict[str, Any]) -> None:
    """Only the new text is answered."""
    engine = ScriptedEngine()
    async with http_client(engine) as client:
        answer = await client.post(PATH, **arguments)

    assert answer.json() == {"ok": True, "outputs": "Hell"}
    assert engine.requests[0].prompt_ids == (ord("H"), ord("i"))
    assert engine.num_open == 0


async def test_max_length_counts_the_prompt() -> None:
    """Four tokens, two of them given."""
    async with http_client(ScriptedEngine()) as client:
        answer = await client.post(PATH, data={"model": "demo", "inputs": "Hi", "max_length": 4})

    assert answer.json()["outputs"] == "He"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"model": "other"}, "unknown model 'other'; known models: demo"),
        ({"model": ""}, "unknown model ''"),
        ({"max_new_tokens": "0"}, "max_new_tokens: should be greater than or equal to 1, got '0'"),
        ({"max_new_tokens": "-1"}, "max_new_tokens: should be"),
        ({"max_new_tokens": "many"}, "max_new_tokens: expected an integer, got 'many'"),
        ({"max_new_tokens": "9" * 30}, "max_new_tokens: should be less"),
        ({"max_new_tokens": "1.5"}, "max_new_tokens: expected an integer"),
        ({"max_length": "9"}, "You should set `max_length` or `max_new_tokens` (but not both)"),
        ({"temperature": "nan"}, "temperature: should be a finite number, got 'nan'"),
        ({"temperature": "-1", "do_sample": "1"}, "temperature must be a number above 0"),
        ({"top_p": "7"}, "top_p must be a number above 0 and at most 1, got 7.0"),
        ({"top_k": "-7"}, "top_k must be a whole number"),
        ({"do_sample": "perhaps"}, "do_sample: expected true or false"),
        ({"inputs": "x" * 600}, "604 tokens are more than the 512 this model can hold"),
    ],
)
async def test_bad_input_gets_one_sentence_with_status_200(
    changes: dict[str, str], sentence: str
) -> None:
    """Clients of Petals look into the body only."""
    async with http_client(ScriptedEngine()) as client:
        answer = await client.post(PATH, data={**FIELDS, **changes})

    assert answer.status_code == 200
    assert answer.json()["ok"] is False
    assert sentence in answer.json()["traceback"]


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"{", "application/json"),
        (b"[1]", "application/json"),
        (b"\xff\xfe", "text/plain"),
        (b"--x\r\nbroken", "multipart/form-data"),
        (b"--x\r\nbroken", "multipart/form-data; boundary=y"),
    ],
)
async def test_broken_body_gets_one_sentence(content: bytes, kind: str) -> None:
    """Whatever it claims to be."""
    async with http_client(ScriptedEngine()) as client:
        answer = await client.post(PATH, content=content, headers={"content-type": kind})

    assert answer.status_code == 200
    assert set(answer.json()) == {"ok", "traceback"}


async def test_file_is_not_a_field() -> None:
    """An upload is refused."""
    async with http_client(ScriptedEngine()) as client:
        answer = await client.post(PATH, files={"inputs": ("a.txt", b"text")})

    assert answer.json() == {"ok": False, "traceback": "broken form body"}


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (NoRouteError([BlockRange(0, 4)]), "no online server holds blocks 0:4"),
        (CapacityError(PeerId("QmX"), BlockRange(0, 4)), "attention cache is full"),
    ],
)
async def test_swarm_that_cannot_is_told_with_status_200(error: Exception, sentence: str) -> None:
    """In the words the chat page of Petals looks for."""
    engine = ScriptedEngine()
    engine.open_error = error
    async with http_client(engine) as client:
        answer = await client.post(PATH, data=FIELDS)

    assert answer.status_code == 200
    assert sentence in answer.json()["traceback"]


async def test_crash_is_told_without_inner_facts() -> None:
    """In the dialect's shape, too."""
    engine = ScriptedEngine()
    engine.error = RuntimeError("/root/secret.py")
    async with http_client(engine) as client:
        answer = await client.post(PATH, data=FIELDS)

    expected = {"ok": False, "traceback": "something went wrong inside the gateway"}
    assert answer.json() == expected
    assert engine.num_open == 0


async def test_caller_who_leaves_frees_the_session() -> None:
    """Though nothing is streamed, the connection is watched."""
    engine = ScriptedEngine()
    engine.num_before_hold = 1
    body = {**FIELDS, "max_new_tokens": 4}
    async with running_app(engine) as app, RequestCaller(app, PATH, body) as caller:
        await engine.is_holding.wait()
        assert engine.num_open == 1

        caller.leave()
        await caller.wait_served()

        assert engine.num_open == 0


async def test_used_up_tokens_get_429_with_the_time_to_wait() -> None:
    """The body keeps the dialect's shape."""
    limits = LimitSettings(address_tokens_per_minute=60, address_burst_tokens=8)
    async with http_client(ScriptedEngine("a" * 99), Settings(limits=limits)) as client:
        first = await client.post(PATH, data=FIELDS)
        second = await client.post(PATH, data=FIELDS)

    assert first.headers["x-ratelimit-limit-tokens"] == "8"
    assert first.headers["x-ratelimit-remaining-tokens"] == "2"
    assert (second.status_code, second.json()["ok"]) == (429, False)
    assert 1 <= int(second.headers["retry-after"]) <= 5


async def test_unused_tokens_are_given_back() -> None:
    """The script ends long before the maximum."""
    limits = LimitSettings(address_tokens_per_minute=1, address_burst_tokens=100)
    async with http_client(ScriptedEngine("ab"), Settings(limits=limits)) as client:
        await client.post(PATH, data={**FIELDS, "max_new_tokens": "90"})
        answer = await client.post(PATH, data={**FIELDS, "max_new_tokens": "90"})

    assert answer.json()["ok"] is True


async def test_request_over_every_burst_is_refused_for_good() -> None:
    """Waiting would not help, so it is not 429."""
    limits = LimitSettings(address_burst_tokens=10)
    async with http_client(ScriptedEngine(), Settings(limits=limits)) as client:
        answer = await client.post(PATH, data={**FIELDS, "max_new_tokens": "90"})

    assert "never allows more than 10 at once" in answer.json()["traceback"]
    assert "retry-after" not in answer.headers


async def test_lost_store_gets_503_in_the_dialects_shape() -> None:
    """It says what is missing, and when to come back."""
    nobody = RedisStateStore("redis://127.0.0.1:1")
    settings = Settings(limits=LimitSettings(away_fraction=0))
    async with http_client(ScriptedEngine(), settings, nobody) as client:
        answer = await client.post(PATH, data=FIELDS)

    assert (answer.status_code, answer.json()["ok"]) == (503, False)
    assert "state store does not answer" in answer.json()["traceback"]
    assert answer.headers["retry-after"] == "1"
