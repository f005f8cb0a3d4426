"""Where the time of an answer went, as callers see it."""

from tests.harness.scripted_engine import ScriptedEngine, http_client

CHAT = {"model": "demo", "messages": [{"role": "user", "content": "Hi"}]}


async def test_whole_answer_tells_where_its_time_went() -> None:
    """In the header that browsers' tools draw (W3C Server Timing)."""
    async with http_client(ScriptedEngine()) as client:
        answer = await client.post("/v1/chat/completions", json=CHAT)

    parts = [part.partition(";dur=") for part in answer.headers["server-timing"].split(", ")]
    assert [name for name, _, _ in parts] == [
        *("queue", "prefill", "decode", "hops", "head", "total")
    ]
    assert all(float(value) >= 0 for _, _, value in parts)
