"""Events that reach the connection past ASGI, under the real web server."""

import asyncio
from contextlib import nullcontext

from app.gateway import Gateway
from app.settings import Settings
from app.state.memory import MemoryStateStore
from app.web_server import serve_gateway
from tests.harness.scripted_engine import ScriptedEngine, ScriptedNode


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
    engine, ports = ScriptedEngine("Hello, world!"), asyncio.Queue[int]()
    parts = Gateway(ScriptedNode(), engine, MemoryStateStore())
    serving = asyncio.create_task(
        serve_gateway(
            Settings(port=0),
            lambda _, port: ports.put_nowait(port),
            gateway=lambda _: nullcontext(parts),
        )
    )
    body = (
        b'{"model":"demo","messages":[{"role":"user","content":"Hi"}],"max_tokens":13,'
        b'"stream":true,"stream_options":{"include_usage":true}}'
    )

    head, _, rest = (await raw_answer(await ports.get(), body)).partition(b"\r\n\r\n")
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)

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
