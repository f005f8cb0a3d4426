"""Events and replies that reach the connection past ASGI, under the real web server."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from app.direct_writes import DirectSocket
from app.gateway import Gateway
from app.settings import Settings
from app.state.memory import MemoryStateStore
from app.web_server import serve_gateway
from tests.harness.scripted_engine import ScriptedEngine, ScriptedNode


async def until(is_true: Callable[[], bool]) -> None:
    """Let the other tasks run until they have made it true."""
    async with asyncio.timeout(5):
        while not is_true():  # noqa: ASYNC110 - the engine has no event to wait for
            await asyncio.sleep(0.001)


@asynccontextmanager
async def served(engine: ScriptedEngine, **settings: Any) -> AsyncGenerator[int]:
    """Serve the engine on loopback; yield the port."""
    ports = asyncio.Queue[int]()
    parts = Gateway(ScriptedNode(), engine, MemoryStateStore())
    serving = asyncio.create_task(
        serve_gateway(
            Settings(port=0, **settings),
            lambda _, port: ports.put_nowait(port),
            gateway=lambda _: nullcontext(parts),
        )
    )
    try:
        yield await ports.get()
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def raw_answer(port: int, body: bytes) -> bytes:
    """Return all bytes of a chat's answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
        b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    )
    received = await reader.read(-1)
    writer.close()
    await writer.wait_closed()
    return received


def chunks_of(body: bytes) -> list[bytes]:
    """Return the chunks of a chunked body; fails if it is not well-formed to its end."""
    chunks, rest = list[bytes](), body
    while rest != b"0\r\n\r\n":
        size, _, rest = rest.partition(b"\r\n")
        chunks.append(rest[: int(size, 16)])
        assert rest[int(size, 16) :].startswith(b"\r\n")
        rest = rest[int(size, 16) + 2 :]
    return chunks


async def test_a_stream_is_whole_and_in_order_under_the_real_web_server() -> None:
    """Head, role, each token, usage and end: whichever way each of them took."""
    body = (
        b'{"model":"demo","messages":[{"role":"user","content":"Hi"}],"max_tokens":13,'
        b'"stream":true,"stream_options":{"include_usage":true}}'
    )

    async with served(ScriptedEngine("Hello, world!")) as port:
        head, _, rest = (await raw_answer(port, body)).partition(b"\r\n\r\n")

    assert b"transfer-encoding: chunked" in head
    events = b"".join(chunks_of(rest)).split(b"\n\n")
    texts = [
        event.split(b'"content":"')[1].split(b'"')[0]
        for event in events
        if b"delta" in event and b'"content":"' in event
    ]
    assert b"".join(texts) == b"Hello, world!"
    assert b'"role":"assistant"' in events[0]
    assert b'"usage":{' in events[-3]
    assert events[-2].endswith(b"data: [DONE]")


@pytest.mark.parametrize("num_padding", [0, 200_000])
async def test_a_caller_who_leaves_frees_its_conversation(num_padding: int) -> None:
    """Also one whose request was so large that reading was paused meanwhile."""
    engine = ScriptedEngine("Hello!")
    engine.num_before_hold = 2
    body = (
        b'{"model":"demo","messages":[{"role":"user","content":"Hi"}],"max_tokens":6,'
        b'"stream":true,"padding":"%b"}' % (b"x" * num_padding)
    )
    async with served(engine, resume_s=0) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b"
            % (len(body), body)
        )
        await reader.readuntil(b'"content":"e"')
        num_open = engine.num_open
        writer.close()
        await writer.wait_closed()

        await until(lambda: engine.num_open == 0)
    assert num_open == 1


async def test_replies_come_in_order_under_the_real_web_server() -> None:
    """The opening, each token and the end, whichever way each of them took."""
    opening = {"type": "open_inference_session", "model": "demo", "max_length": 64}
    wanted = {"type": "generate", "inputs": "Hi", "max_new_tokens": 1, "stop_sequence": "!"}
    replies: list[dict[str, Any]] = []
    async with (
        served(ScriptedEngine("Hello!")) as port,
        connect(f"ws://127.0.0.1:{port}/api/v2/generate") as socket,
    ):
        await socket.send(json.dumps(opening))
        await socket.send(json.dumps(wanted))
        while not replies or not replies[-1].get("stop"):
            replies.append(json.loads(await socket.recv()))

    assert "".join(reply.get("outputs", "") for reply in replies) == "Hello!"
    assert [reply["token_count"] for reply in replies[1:]] == [1] * 6


async def test_text_that_is_none_closes_the_socket_with_its_code(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Broken bytes are the caller's doing: no traceback of ours tells of them."""
    async with (
        served(ScriptedEngine()) as port,
        connect(f"ws://127.0.0.1:{port}/api/v2/generate") as socket,
    ):
        await socket.send(b"\xff{}", text=True)
        await socket.wait_closed()

        assert socket.close_code == 1007
    assert not [record for record in caplog.records if record.exc_info]


class Wire:
    """An open connection as `DirectSocket` sees it; keeps what is written."""

    handshake_complete = True
    close_sent = False
    disconnected = False

    def __init__(self) -> None:
        self.writable = asyncio.Event()
        self.writable.set()
        self.written = StreamReader()
        self.transport: Any = self  # it stands for its own transport

    def write(self, data: bytes) -> None:
        self.written.feed_data(data)

    def is_closing(self) -> bool:
        return False


@pytest.mark.parametrize("num_bytes", [0, 1, 125, 126, 65_535, 65_536])
def test_a_text_of_any_size_is_one_whole_frame(num_bytes: int) -> None:
    """As the websockets package reads it; the length is written in three ways."""
    wire, text = Wire(), b"x" * num_bytes

    DirectSocket(wire).write_text(text)
    parsing = Frame.parse(wire.written.read_exact, mask=False)
    with pytest.raises(StopIteration) as parsed:
        next(parsing)

    assert parsed.value.value == Frame(Opcode.TEXT, text)


def test_a_caller_who_does_not_keep_up_is_not_written_to() -> None:
    """Then the layers wait, and the stall timeout counts."""
    wire = Wire()
    was_open = DirectSocket(wire).is_open

    wire.writable.clear()

    assert was_open
    assert not DirectSocket(wire).is_open
