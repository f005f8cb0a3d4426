"""The contract of `Node`: the libp2p node and the in-memory one behave alike."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from swarm_protocol.errors import (
    PeerRefusedError,
    PeerUnreachableError,
    ProtocolNotSupportedError,
)
from swarm_protocol.hivemind import HivemindNode, NodeSettings
from swarm_protocol.identifiers import PeerId
from swarm_protocol.memory_node import MemoryNetwork
from swarm_protocol.node import Node, RecordEntry, ServedStream

UNKNOWN_PEER = PeerId("QmedTaZXmULqwspJXz44SsPZyTNKxhnnFvYRajfH7MGhCY")
NO_PEER = PeerId("not base58")
Pair = tuple[Node, Node]


@pytest.fixture(scope="module", params=["memory", "hivemind", "hivemind without shortcuts"])
async def pair(request: pytest.FixtureRequest) -> AsyncIterator[Pair]:
    """A server and a caller in one swarm."""
    if request.param == "memory":
        network = MemoryNetwork()
        yield network.node("server"), network.node("caller")
        return
    async with AsyncExitStack() as stack:
        settings = NodeSettings(has_shortcuts=request.param == "hivemind")
        server = await HivemindNode.start(settings)
        stack.push_async_callback(server.close)
        caller = await HivemindNode.start(replace(settings, initial_peers=server.maddrs))
        stack.push_async_callback(caller.close)
        yield server, caller


async def test_unary_call_answers_and_knows_the_caller(pair: Pair) -> None:
    """The caller's identity is the transport's, not the message's."""
    server, caller = pair

    async def answer(request: bytes, peer: PeerId) -> bytes:
        return request + peer.encode()

    await server.serve_unary("Test.unary", answer)

    assert await caller.call(server.peer_id, "Test.unary", b"I am ") == (
        b"I am " + caller.peer_id.encode()
    )


async def test_failing_unary_handler_is_a_refusal_with_its_repr(pair: Pair) -> None:
    """Unary errors travel as `repr(error)`."""
    server, caller = pair

    async def fail(_request: bytes, _peer: PeerId) -> bytes:
        raise ValueError("no such block")

    await server.serve_unary("Test.fail", fail)

    with pytest.raises(PeerRefusedError, match=r"ValueError.*no such block"):
        await caller.call(server.peer_id, "Test.fail", b"")


async def test_method_that_nobody_serves_is_not_supported(pair: Pair) -> None:
    """The peer is alive, which routing must be able to tell from a dead one."""
    server, caller = pair

    with pytest.raises(ProtocolNotSupportedError):
        await caller.call(server.peer_id, "Test.nothing", b"")
    with pytest.raises(ProtocolNotSupportedError):
        await caller.open_stream(server.peer_id, "Test.nothing")


@pytest.mark.parametrize("peer", [UNKNOWN_PEER, NO_PEER])
async def test_peer_that_is_not_there_is_unreachable(pair: Pair, peer: PeerId) -> None:
    """Calls, streams and pings agree on that, also for an id that cannot be one."""
    _, caller = pair

    async with asyncio.timeout(10):
        with pytest.raises(PeerUnreachableError):
            await caller.call(peer, "Test.unary", b"")
        with pytest.raises(PeerUnreachableError):
            await caller.open_stream(peer, "Test.unary")
        with pytest.raises(PeerUnreachableError):
            await caller.ping(peer)


async def test_closing_a_stream_ends_a_receive_that_waits(pair: Pair) -> None:
    """Whoever closes a session need not wait for the deadline of a step in flight."""
    server, caller = pair

    async def wait(_stream: ServedStream) -> None:
        await asyncio.Event().wait()

    await server.serve_stream("Test.silent", wait)
    stream = await caller.open_stream(server.peer_id, "Test.silent")
    receiving = asyncio.ensure_future(stream.receive())
    await asyncio.sleep(0)
    stream.close()

    async with asyncio.timeout(5):
        (outcome,) = await asyncio.gather(receiving, return_exceptions=True)
    assert outcome is None or isinstance(outcome, PeerUnreachableError)


async def test_sending_to_a_handler_that_has_ended_fails(pair: Pair) -> None:
    """Also for a sender who had to wait for room when it ended."""
    server, caller = pair
    may_end = asyncio.Event()

    async def end(_stream: ServedStream) -> None:
        await may_end.wait()

    async def send_on() -> None:
        while True:
            await stream.send(bytes(1 << 20))

    await server.serve_stream("Test.ending", end)
    stream = await caller.open_stream(server.peer_id, "Test.ending")
    sending = asyncio.ensure_future(send_on())
    for _ in range(50):
        await asyncio.sleep(0)
    assert not sending.done()
    may_end.set()

    async with asyncio.timeout(5):
        with pytest.raises(PeerUnreachableError):
            await sending
    stream.close()


async def test_ping_of_a_live_peer_takes_some_time(pair: Pair) -> None:
    """A round trip in seconds."""
    server, caller = pair

    assert 0 <= await caller.ping(server.peer_id) < 5


async def test_stream_carries_frames_both_ways_in_order(pair: Pair) -> None:
    """Empty frames are frames, too."""
    server, caller = pair

    async def echo(stream: ServedStream) -> None:
        while (frame := await stream.receive()) is not None:
            await stream.send(frame)

    await server.serve_stream("Test.echo", echo)
    stream = await caller.open_stream(server.peer_id, "Test.echo")
    frames = [b"a", b"", bytes(300_000), b"z"]
    replies = []
    for frame in frames:
        await stream.send(frame)
        replies.append(await stream.receive())
    await stream.finish()

    assert replies == frames
    assert await stream.receive() is None
    stream.close()


async def test_frames_sent_at_once_keep_their_place(pair: Pair) -> None:
    """Among those that may wait for room, both ways."""
    server, caller = pair

    async def echo(stream: ServedStream) -> None:
        while (frame := await stream.receive()) is not None:
            assert stream.has_room
            stream.send_now(frame)
            await stream.send(frame)

    await server.serve_stream("Test.echo_twice", echo)
    stream = await caller.open_stream(server.peer_id, "Test.echo_twice")
    assert stream.has_room
    stream.send_now(b"a")
    await stream.send(b"b")

    assert [await stream.receive() for _ in range(4)] == [b"a", b"a", b"b", b"b"]
    stream.close()
    assert not stream.has_room


async def test_failing_stream_handler_is_a_refusal_with_its_text(pair: Pair) -> None:
    """Stream errors travel as `str(error)`, after the replies that were sent before."""
    server, caller = pair

    async def fail(stream: ServedStream) -> None:
        await stream.send(b"first")
        raise ValueError("then no more")

    await server.serve_stream("Test.fail_stream", fail)
    stream = await caller.open_stream(server.peer_id, "Test.fail_stream")

    assert await stream.receive() == b"first"
    with pytest.raises(PeerRefusedError, match=r"^peer \w+: then no more$"):
        await stream.receive()
    stream.close()


@pytest.mark.parametrize(("num_frames", "frame_bytes"), [(1, 100), (3, 300_000)])
async def test_a_refusal_reaches_a_caller_whose_frames_nobody_read(
    pair: Pair, num_frames: int, frame_bytes: int
) -> None:
    """Each of 60; one or more of 15 were lost when streams closed with data unread."""
    server, caller = pair

    async def refuse(_stream: ServedStream) -> None:
        raise ValueError("not now")

    method = f"Test.refuse_{num_frames}"
    await server.serve_stream(method, refuse)

    for _ in range(60):
        stream = await caller.open_stream(server.peer_id, method)
        for _ in range(num_frames):
            await stream.send(bytes(frame_bytes))
        with pytest.raises(PeerRefusedError, match="not now"):
            await stream.receive()
        stream.close()


async def test_handler_is_cancelled_when_the_caller_leaves(pair: Pair) -> None:
    """What a session holds is freed at once, not at its next step."""
    server, caller = pair
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def wait(_stream: ServedStream) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    await server.serve_stream("Test.wait", wait)
    stream = await caller.open_stream(server.peer_id, "Test.wait")
    async with asyncio.timeout(5):
        await started.wait()
        stream.close()

        await cancelled.wait()


async def test_records_are_found_with_the_newest_value_of_each_subkey(pair: Pair) -> None:
    """Values keep their types, tuples included."""
    server, caller = pair
    await server.store([RecordEntry("m.0", "one", (2, 1.0, {"a": [1]}))], ttl_s=30)
    await server.store([RecordEntry("m.0", "two", (1, 0.5, {}))], ttl_s=30)
    await caller.store([RecordEntry("m.0", "one", (0, 1.0, {}))], ttl_s=60)

    found = await caller.lookup(["m.0", "m.1"])

    assert {sub: record.value for sub, record in found["m.0"].items()} == {
        "one": (0, 1.0, {}),
        "two": (1, 0.5, {}),
    }
    assert "m.1" not in found


async def test_expired_record_is_not_found(pair: Pair) -> None:
    """A server that stops announcing disappears."""
    server, caller = pair
    await server.store([RecordEntry("m.9", "one", 1)], ttl_s=0.4)

    async with asyncio.timeout(5):
        while "m.9" in await caller.lookup(["m.9"]):  # noqa: ASYNC110  (the DHT has no event)
            await asyncio.sleep(0.05)
