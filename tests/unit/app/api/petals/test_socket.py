"""Frames of a Petals WebSocket."""

import asyncio

import pytest
from starlette.types import Message

from app.admission import CallerLeftError
from app.api.petals.socket import CLOSE_NORMAL, PetalsSocket
from app.errors import BinaryMessageError


class _Wire:
    """What the caller sends, and what it gets."""

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[Message] = asyncio.Queue()
        self.sent: list[Message] = []
        self.is_broken = False

    async def send(self, message: Message) -> None:
        if self.is_broken:
            raise OSError
        self.sent.append(message)


async def test_silent_caller_is_left_without_a_word() -> None:
    """Nobody waits for a reply."""
    wire = _Wire()
    socket = PetalsSocket(wire.incoming.get, wire.send)

    with pytest.raises(CallerLeftError):
        await socket.next_text(0.001)

    assert wire.sent == [{"type": "websocket.close", "code": CLOSE_NORMAL}]


async def test_broken_connection_means_that_the_caller_left() -> None:
    """Whatever the server calls it."""
    wire = _Wire()
    wire.is_broken = True

    with pytest.raises(CallerLeftError):
        await PetalsSocket(wire.incoming.get, wire.send).send_text(b"x")


async def test_nothing_is_taken_in_after_a_wrong_frame() -> None:
    """Only the end of the connection is still noticed."""
    wire = _Wire()
    socket = PetalsSocket(wire.incoming.get, wire.send)
    for frame in ({"text": "a"}, {"bytes": b"b"}, {"text": "c"}):
        wire.incoming.put_nowait({"type": "websocket.receive", **frame})
    wire.incoming.put_nowait({"type": "websocket.disconnect"})

    with pytest.raises(CallerLeftError):
        await socket.read()

    assert await socket.next_text(1) == "a"
    with pytest.raises(BinaryMessageError):
        await socket.next_text(1)
    with pytest.raises(CallerLeftError):
        await socket.next_text(0.001)


async def test_caller_who_takes_no_reply_is_noticed() -> None:
    """Once it has been waited for long enough, and not before it has something to take."""
    wire, is_reading = _Wire(), asyncio.Event()

    async def send_slowly(message: Message) -> None:
        await is_reading.wait()
        await wire.send(message)

    socket = PetalsSocket(wire.incoming.get, send_slowly, stall_timeout_s=0)
    await socket.check_reader()
    sending = asyncio.create_task(socket.send_text(b"x"))
    await asyncio.sleep(0)

    with pytest.raises(CallerLeftError):
        await socket.check_reader()
    is_reading.set()
    await sending
    await socket.check_reader()
