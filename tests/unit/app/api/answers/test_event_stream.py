"""Server-sent events on an ASGI `send`."""

import asyncio

import pytest
from starlette.types import Message

from app.admission import CallerLeftError
from app.api.answers.event_stream import KEEP_ALIVE_FRAME, EventStream


class _Reader:
    """Takes messages while `is_reading` is set."""

    def __init__(self) -> None:
        self.is_reading = asyncio.Event()
        self.is_reading.set()
        self.taken: list[Message] = []

    async def take(self, message: Message) -> None:
        await self.is_reading.wait()
        self.taken.append(message)


async def test_each_event_is_flushed_at_once() -> None:
    """One message per event, and an empty one at the end."""
    reader = _Reader()
    stream = EventStream(reader.take)
    await stream.start({"x-extra": "1"})
    await stream.write(b"data: 1\n\n")
    await stream.end()

    start, event, end = reader.taken
    assert (b"x-extra", b"1") in start["headers"]
    assert event == {"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True}
    assert not end.get("more_body")


async def test_comments_are_sent_only_into_silence() -> None:
    """Not before the start, and not where events come anyway."""
    reader = _Reader()
    stream = EventStream(reader.take)
    await stream.keep_alive()
    await stream.start({})
    await stream.write(b"data: 1\n\n")
    await stream.keep_alive()
    await stream.keep_alive()

    bodies = [message["body"] for message in reader.taken if "body" in message]
    assert bodies == [b"data: 1\n\n", KEEP_ALIVE_FRAME]


async def test_slow_reader_holds_the_writer_back() -> None:
    """Nothing piles up in the gateway, and no comment is squeezed in."""
    reader = _Reader()
    stream = EventStream(reader.take)
    await stream.start({})
    reader.is_reading.clear()
    writing = asyncio.create_task(stream.write(b"data: 1\n\n"))
    await asyncio.sleep(0)

    await stream.keep_alive()
    assert not writing.done()
    reader.is_reading.set()
    await writing

    assert len(reader.taken) == 2


async def test_reader_who_takes_nothing_any_more_counts_as_gone() -> None:
    """It would hold KV memory for ever."""
    reader = _Reader()
    stream = EventStream(reader.take, stall_timeout_s=0.0)
    await stream.start({})
    reader.is_reading.clear()

    with pytest.raises(CallerLeftError):
        await stream.write(b"data: 1\n\n")
