import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from swarm_protocol.errors import PeerMisbehavedError, PeerRefusedError, PeerUnreachableError
from swarm_protocol.hivemind.frames import HivemindCallStream, HivemindServedStream
from swarm_protocol.identifiers import PeerId
from swarm_protocol.node import MAX_FRAME_BYTES

PEER = PeerId("peer")


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
async def wire() -> AsyncIterator[Wire]:
    near_end, far_end = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=near_end)
    stream = HivemindCallStream(PEER, reader, writer)
    yield Wire(stream, far_end)
    stream.close()
    await writer.wait_closed()
    far_end.close()


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
async def test_the_end_marker_of_a_caller_is_the_end_of_its_input(end: str) -> None:
    """Empty, as it is normally, or not; from a server it would be an error."""
    near_end, far_end = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=near_end)
    stream = HivemindServedStream(PEER, reader, writer)
    far_end.sendall(bytes.fromhex("00000000000000000161" + end))
    far_end.close()

    await stream.read_until_caller_leaves()

    assert [await stream.receive() for _ in range(2)] == [b"a", None]
    writer.close()
    await writer.wait_closed()


async def test_a_handlers_error_is_a_frame_with_the_end_marker() -> None:
    """Error "boom" of PETALS_PROTOCOL §0.4, as a server sends it."""
    near_end, far_end = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=near_end)
    await HivemindServedStream(PEER, reader, writer).send_error("boom")

    assert far_end.recv(4096).hex() == "0100000000000000060a04626f6f6d"
    writer.close()
    await writer.wait_closed()
    far_end.close()
