"""Frames on a socket, the same on both kinds of ends."""

import asyncio
import socket
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import pytest

from swarm_protocol.errors import (
    MalformedMessageError,
    PeerMisbehavedError,
    PeerRefusedError,
    PeerUnreachableError,
)
from swarm_protocol.hivemind import frames
from swarm_protocol.hivemind.frames import (
    HEADER,
    MESSAGE,
    FrameEnd,
    HivemindCallStream,
    HivemindServedStream,
    ServedEnd,
    ServedStreamEnd,
    StreamEnd,
)
from swarm_protocol.hivemind.socket_end import SocketEnd
from swarm_protocol.identifiers import PeerId
from swarm_protocol.node import MAX_FRAME_BYTES

PEER = PeerId("peer")

Connect = Callable[[socket.socket], Awaitable[FrameEnd]]
Serve = Callable[[socket.socket], Awaitable[ServedEnd]]


async def connect_stream(near_end: socket.socket) -> FrameEnd:
    return StreamEnd(*await asyncio.open_unix_connection(sock=near_end))


async def serve_stream(near_end: socket.socket) -> ServedEnd:
    return ServedStreamEnd(*await asyncio.open_unix_connection(sock=near_end))


async def connect_socket(near_end: socket.socket) -> ServedEnd:
    loop = asyncio.get_running_loop()
    _, end = await loop.create_unix_connection(SocketEnd, sock=near_end)
    return end


@pytest.fixture(params=["asyncio", "uvloop"], scope="module")
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Run on both event loops: programs use uvloop, the library whatever its user has."""
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


@pytest.fixture(params=[connect_stream, connect_socket])
def connect(request: pytest.FixtureRequest) -> Connect:
    """Return what makes one end of a connection out of a socket."""
    make: Connect = request.param
    return make


@pytest.fixture(params=[serve_stream, connect_socket])
def serve(request: pytest.FixtureRequest) -> Serve:
    """Return what makes the served end of a connection out of a socket."""
    make: Serve = request.param
    return make


class Wire:
    """A call stream whose other end is a plain socket in the test's hand."""

    def __init__(self, stream: HivemindCallStream, far_end: socket.socket) -> None:
        self.stream = stream
        self._far_end = far_end

    def arrives(self, data: str) -> None:
        """Let these bytes, in hexadecimal, arrive, and then the end."""
        self._far_end.sendall(bytes.fromhex(data))
        self._far_end.shutdown(socket.SHUT_WR)

    def sent(self) -> str:
        """Return in hexadecimal what the stream has sent."""
        return self._far_end.recv(4096).hex()


@pytest.fixture
async def wire(connect: Connect) -> AsyncIterator[Wire]:
    near_end, far_end = socket.socketpair()
    stream = HivemindCallStream(PEER, await connect(near_end))
    yield Wire(stream, far_end)
    stream.close()
    await _closed()
    far_end.close()


async def _closed() -> None:
    """Let transports that were closed do so."""
    await _turns(2)


async def _turns(number: int) -> None:
    """Let the event loop turn so often."""
    for _ in range(number):
        await asyncio.sleep(0)


async def test_empty_message_is_nine_zero_bytes(wire: Wire) -> None:
    """The frame that ends a session (PETALS_PROTOCOL §0.4)."""
    await wire.stream.send(b"")

    assert wire.sent() == "00" * 9


async def test_length_is_big_endian_and_the_end_marker_is_one(wire: Wire) -> None:
    """Marker, eight bytes of length, payload; then the end of our input."""
    await wire.stream.send(b"abc")
    await wire.stream.finish()

    assert wire.sent() == "000000000000000003616263010000000000000000"


async def test_frames_are_read_one_after_the_other(wire: Wire) -> None:
    """A clean end is None."""
    wire.arrives("00000000000000000161000000000000000000")

    assert [await wire.stream.receive() for _ in range(3)] == [b"a", b"", None]


async def test_error_frame_of_a_server_carries_its_text(wire: Wire) -> None:
    """Error "boom" of PETALS_PROTOCOL §0.4."""
    wire.arrives("0100000000000000060a04626f6f6d")

    with pytest.raises(PeerRefusedError, match="boom"):
        await wire.stream.receive()


async def test_empty_error_frame_is_an_error_all_the_same(wire: Wire) -> None:
    """A Python TimeoutError becomes an empty text."""
    wire.arrives("010000000000000000")

    with pytest.raises(PeerRefusedError, match="no reason given"):
        await wire.stream.receive()


@pytest.mark.parametrize(
    "header", ["020000000000000000", "00ffffffffffffffff", "010000000000100000"]
)
async def test_unknown_marker_and_absurd_length_are_refused(wire: Wire, header: str) -> None:
    """Nothing is allocated for a length that a peer merely claims."""
    wire.arrives(header)

    with pytest.raises(PeerMisbehavedError, match="is refused"):
        await wire.stream.receive()


async def test_largest_frame_is_within_the_limit(wire: Wire) -> None:
    """At the limit the reader waits for the payload instead of refusing the length."""
    wire.arrives("00" + MAX_FRAME_BYTES.to_bytes(8, "big").hex())

    with pytest.raises(PeerUnreachableError, match="the connection broke"):
        await wire.stream.receive()


async def test_frame_over_the_limit_is_refused(wire: Wire) -> None:
    """One byte more is not believed."""
    wire.arrives("00" + (MAX_FRAME_BYTES + 1).to_bytes(8, "big").hex())

    with pytest.raises(PeerMisbehavedError, match="is refused"):
        await wire.stream.receive()


@pytest.mark.parametrize("end", ["010000000000000000", "0100000000000000060a04626f6f6d"])
async def test_the_end_marker_of_a_caller_is_the_end_of_its_input(serve: Serve, end: str) -> None:
    """Empty, as it is normally, or not; from a server it would be an error."""
    near_end, far_end = socket.socketpair()
    connection = await serve(near_end)
    stream = HivemindServedStream(PEER, connection)
    far_end.sendall(bytes.fromhex("00000000000000000161" + end))
    far_end.close()

    await stream.wait_left()

    assert [await stream.receive() for _ in range(2)] == [b"a", None]
    connection.close()
    await _closed()


async def test_what_follows_no_frame_is_dropped_until_the_caller_leaves(serve: Serve) -> None:
    """The handler is told once; a flood of the rest takes no memory."""
    near_end, far_end = socket.socketpair()
    connection = await serve(near_end)
    stream = HivemindServedStream(PEER, connection)
    flood = bytes.fromhex("02" + "00" * 8) + bytes(16 * 1024 * 1024)
    leaving = asyncio.ensure_future(stream.wait_left())

    tracemalloc.start()
    await asyncio.to_thread(far_end.sendall, flood)
    far_end.close()
    await leaving
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak_bytes < 4 * 1024 * 1024

    with pytest.raises(MalformedMessageError, match="is refused"):
        await stream.receive()
    connection.close()
    await _closed()


async def test_the_rest_of_a_refused_call_is_dropped_until_the_caller_leaves(serve: Serve) -> None:
    """Whoever sends a large frame gets to its end, and to our error; it takes no memory."""
    near_end, far_end = socket.socketpair()
    connection = await serve(near_end)
    leaving = asyncio.ensure_future(connection.wait_left())
    flood = HEADER.pack(MESSAGE, 16 * 1024 * 1024) + bytes(16 * 1024 * 1024)
    sending = asyncio.ensure_future(asyncio.to_thread(far_end.sendall, flood))
    await _turns(10)
    leaving.cancel()
    await asyncio.wait({leaving})

    tracemalloc.start()
    dropping = asyncio.ensure_future(connection.drop_rest(32 * 1024 * 1024))
    await sending
    assert not dropping.done()
    far_end.close()
    await dropping
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak_bytes < 4 * 1024 * 1024
    connection.close()
    await _closed()


async def test_a_handlers_error_is_a_frame_with_the_end_marker(serve: Serve) -> None:
    """Error "boom" of PETALS_PROTOCOL §0.4, as a server sends it."""
    near_end, far_end = socket.socketpair()
    connection = await serve(near_end)
    await HivemindServedStream(PEER, connection).send_error("boom")

    assert far_end.recv(4096).hex() == "0100000000000000060a04626f6f6d"
    connection.close()
    await _closed()
    far_end.close()


async def test_an_error_that_nobody_takes_is_given_up(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its connection: callers who neither read nor leave would have us keep both for ever."""
    monkeypatch.setattr(frames, "_TAKEN_TIMEOUT_S", 0.01)
    near_end, far_end = socket.socketpair()
    stream = HivemindServedStream(PEER, await serve(near_end))
    stream.send_now(bytes(4_000_000))

    async with asyncio.timeout(5):
        await stream.send_error("boom")

    await _closed()
    received = bytearray()
    while part := far_end.recv(1 << 20):
        received += part
    assert 0 < len(received) < 4_000_000
    far_end.close()


async def test_who_writes_waits_until_the_peer_reads(connect: Connect) -> None:
    """More than the socket holds, in order, both ways at once."""
    near_end, far_end = socket.socketpair()
    near, far = await connect(near_end), await connect(far_end)
    payloads = [bytes([number]) * 1_500_000 for number in range(4)]
    writing = asyncio.ensure_future(_write_all(near, payloads))
    await _closed()
    assert not writing.done()

    assert [await far.read() for _ in payloads] == [(0, payload) for payload in payloads]

    await writing
    for end in (near, far):
        end.close()
    await _closed()


async def test_a_message_written_now_has_left_with_the_call(connect: Connect) -> None:
    """The loop need not turn."""
    near_end, far_end = socket.socketpair()
    near = await connect(near_end)
    assert near.has_room

    near.write_now(b"abc")

    assert far_end.recv(4096).hex() == "00" * 8 + "03616263"
    assert near.has_room
    near.close()
    await _closed()
    far_end.close()


async def test_there_is_no_room_while_something_waits_nor_without_a_connection(
    connect: Connect,
) -> None:
    """What did not fit leaves when the peer reads."""
    near_end, far_end = socket.socketpair()
    near, far = await connect(near_end), await connect(far_end)

    near.write_now(bytes(4_000_000))
    had_room = [near.has_room]
    assert await far.read() == (0, bytes(4_000_000))
    await near.write(b"")  # waits for room
    had_room.append(near.has_room)
    near.close()
    had_room.append(near.has_room)

    assert had_room == [False, True, False]
    far.close()
    await _closed()


async def test_a_flood_of_empty_frames_is_not_read_before_somebody_takes_them() -> None:
    """They have a length, too; the rest stays with the writer."""
    near_end, far_end = socket.socketpair()
    far_end.setblocking(False)
    near = await connect_socket(near_end)
    sending = asyncio.get_running_loop().sock_sendall(far_end, bytes(9 * 300_000))
    flooding = asyncio.ensure_future(sending)

    await _turns(500)  # each could read 16 KiB

    assert not flooding.done()
    assert [await near.read() for _ in range(300_000)] == [(0, b"")] * 300_000
    await flooding
    near.close()
    far_end.close()
    await _closed()


async def test_large_frames_are_not_read_far_ahead(serve: Serve) -> None:
    """One is enough to know that the caller is there."""
    near_end, far_end = socket.socketpair()
    near, far = await serve(near_end), await connect_socket(far_end)
    leaving = asyncio.ensure_future(near.wait_left())
    flooding = asyncio.ensure_future(_write_all(far, [bytes(2 * 1024 * 1024)] * 5))

    await _turns(500)

    assert not flooding.done()
    assert [(await near.read() or (1, b""))[0] for _ in range(5)] == [0] * 5
    await flooding
    far.close()
    await leaving
    near.close()
    await _closed()


async def test_what_has_come_can_be_read_after_closing(connect: Connect) -> None:
    """Though it was so much that reading had paused."""
    near_end, far_end = socket.socketpair()
    near, far = await connect(near_end), await connect(far_end)
    writing = asyncio.ensure_future(_write_all(far, [b"x" * 600_000] * 4))
    await _turns(200)

    near.close()
    await _closed()

    with suppress(OSError, asyncio.IncompleteReadError):
        while (frame := await near.read()) is not None:
            assert frame == (0, b"x" * 600_000)
    with suppress(OSError):
        await writing
    far.close()
    await _closed()


async def test_who_writes_is_told_when_the_peer_has_left(connect: Connect) -> None:
    """Also while waiting for room."""
    near_end, far_end = socket.socketpair()
    near = await connect(near_end)
    writing = asyncio.ensure_future(_write_all(near, [bytes(1_500_000)] * 4))
    await _closed()

    far_end.close()

    with pytest.raises(OSError):  # noqa: PT011  (which one is the system's choice)
        await writing
    near.close()
    await _closed()


async def test_every_write_is_told_that_the_connection_is_gone(connect: Connect) -> None:
    """Not only the one that notices: a session that says goodbye may be the second."""
    near_end, far_end = socket.socketpair()
    near = await connect(near_end)
    far_end.close()
    near.close()
    await _closed()

    for _ in range(2):
        with pytest.raises(OSError):  # noqa: PT011  (which one is the system's choice)
            await near.write(b"abc")


async def _write_all(end: FrameEnd, payloads: list[bytes]) -> None:
    for payload in payloads:
        await end.write(payload)
