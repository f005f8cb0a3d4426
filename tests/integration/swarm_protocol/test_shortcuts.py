"""Streams on one machine that go past libp2p."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from swarm_protocol.errors import PeerUnreachableError, ProtocolNotSupportedError
from swarm_protocol.hivemind import HivemindNode, NodeSettings, make_identity
from swarm_protocol.node import ServedStream

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="abstract sockets are Linux's")

STRANGER = """
import contextlib, os, socket, sys
os.setuid(65534)
end = socket.socket(socket.AF_UNIX)
end.connect("\\0" + sys.argv[1])
opening = b"Test.echo\\n" + sys.argv[1].rpartition("/")[2].encode()
with contextlib.suppress(ConnectionError):  # it may be over before the opening is written
    end.sendall(b"\\0" + len(opening).to_bytes(8, "big") + opening)
    print(end.recv(9) or "", end="")
"""


async def echo(stream: ServedStream) -> None:
    while (frame := await stream.receive()) is not None:
        await stream.send(stream.caller.encode() + b" says " + frame)


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[HivemindNode]:
    node = await HivemindNode.start(NodeSettings())
    await node.serve_stream("Test.echo", echo)
    yield node
    await node.close()


@pytest.fixture(scope="module")
async def caller(server: HivemindNode) -> AsyncIterator[HivemindNode]:
    node = await HivemindNode.start(NodeSettings(initial_peers=server.maddrs))
    yield node
    await node.close()


@contextmanager
def all_daemons_stopped() -> Iterator[None]:
    """Nothing of this process gets through libp2p in the block."""
    daemons = [p for p in psutil.Process().children(recursive=True) if "p2pd" in p.name()]
    for daemon in daemons:
        daemon.suspend()
    yield
    for daemon in daemons:
        daemon.resume()


async def test_a_stream_needs_no_daemon_and_knows_its_caller(
    server: HivemindNode, caller: HivemindNode
) -> None:
    """Frames of any size arrive whole, with both daemons stopped."""
    frame = bytes(3_000_000)

    with all_daemons_stopped():
        stream = await caller.open_stream(server.peer_id, "Test.echo")
        await stream.send(frame)
        reply = await stream.receive()
    stream.close()

    assert reply == caller.peer_id.encode() + b" says " + frame


async def test_what_is_not_served_is_told_by_libp2p(
    server: HivemindNode, caller: HivemindNode
) -> None:
    """The way past it ends without a word."""
    with pytest.raises(ProtocolNotSupportedError):
        await caller.open_stream(server.peer_id, "Test.unknown")


async def test_a_node_that_has_closed_ends_its_streams(caller: HivemindNode) -> None:
    """Whoever reads is told at once."""
    other = await HivemindNode.start(NodeSettings(initial_peers=caller.maddrs))
    await other.serve_stream("Test.echo", echo)
    stream = await caller.open_stream(other.peer_id, "Test.echo")

    await other.close()

    with suppress(PeerUnreachableError):
        assert await stream.receive() is None
    stream.close()


@pytest.mark.parametrize(
    "opening",
    [
        b"",
        b"\0" * 8,
        b"\1" + bytes(8),
        b"\0" + (2**62).to_bytes(8, "big"),
        b"\0" + (1000).to_bytes(8, "big") + b"m" * 1000,
        b"\0" + (11).to_bytes(8, "big") + b"no newline!",
        b"\0" + (14).to_bytes(8, "big") + b"Test.echo\nnobo",
    ],
)
async def test_a_bad_opening_ends_its_connection_and_nothing_else(
    server: HivemindNode, opening: bytes
) -> None:
    """The peer sees an end; others are served as before."""
    end = socket.socket(socket.AF_UNIX)
    end.connect(f"\0swarmgate/{server.peer_id}")
    reader, writer = await asyncio.open_unix_connection(sock=end)

    writer.write(opening)
    writer.write_eof()

    assert await reader.read() == b""
    writer.close()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
async def test_another_user_is_not_let_in(server: HivemindNode) -> None:
    """The kernel says who it is, whatever it says itself."""
    arguments = [sys.executable, "-c", STRANGER, f"swarmgate/{server.peer_id}"]

    said = await asyncio.to_thread(subprocess.check_output, arguments)

    assert said == b""


async def test_of_two_nodes_with_one_identity_the_second_goes_without(tmp_path: Path) -> None:
    """It starts all the same."""
    settings = NodeSettings(identity_path=tmp_path / "identity")
    make_identity(tmp_path / "identity")
    first = await HivemindNode.start(settings)
    second = await HivemindNode.start(settings)

    assert first.peer_id == second.peer_id
    await second.close()
    await first.close()
