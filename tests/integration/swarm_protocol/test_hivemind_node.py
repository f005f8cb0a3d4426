"""What only the libp2p node does: its daemon starts, dies and is missed."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from swarm_protocol.errors import NodeError, ProtocolNotSupportedError
from swarm_protocol.hivemind import HivemindNode, NodeSettings, make_identity
from swarm_protocol.node import RecordEntry, ServedStream
from tests.harness.programs import free_port

PARENT = """
import asyncio, sys
from swarm_protocol.hivemind import HivemindNode, NodeSettings

async def main() -> None:
    node = await HivemindNode.start(NodeSettings())
    print("started", node.peer_id, file=sys.stderr, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
async def node() -> AsyncIterator[HivemindNode]:
    node = await HivemindNode.start(NodeSettings())
    yield node
    await node.close()


def daemons_of(pid: int) -> list[psutil.Process]:
    return [p for p in psutil.Process(pid).children(recursive=True) if "p2pd" in p.name()]


def test_daemon_dies_when_its_parent_is_killed() -> None:
    """An orphaned daemon would go on accepting dials and never answer."""
    with subprocess.Popen([sys.executable, "-c", PARENT], stderr=subprocess.PIPE) as parent:
        assert parent.stderr is not None
        assert parent.stderr.readline().startswith(b"started")
        (daemon,) = daemons_of(parent.pid)

        parent.kill()

    psutil.wait_procs([daemon], timeout=5)
    assert not daemon.is_running() or daemon.status() == psutil.STATUS_ZOMBIE


async def test_close_ends_the_daemon() -> None:
    """Nothing of ours is left, and closing twice is fine."""
    others = daemons_of(os.getpid())
    node = await HivemindNode.start(NodeSettings())
    (daemon,) = [daemon for daemon in daemons_of(os.getpid()) if daemon not in others]

    await node.close()
    await node.close()

    assert not daemon.is_running()


async def test_daemon_that_dies_is_noticed_by_whoever_waits(node: HivemindNode) -> None:
    """Calls in flight and later ones fail at once instead of waiting for ever."""
    other = await HivemindNode.start(NodeSettings(initial_peers=node.maddrs))

    async def wait(_stream: ServedStream) -> None:
        await asyncio.Event().wait()

    await node.serve_stream("Test.wait", wait)
    stream = await other.open_stream(node.peer_id, "Test.wait")
    daemon = other._daemon._process
    async with asyncio.timeout(5):
        daemon.kill()

        with pytest.raises(NodeError, match="has ended"):
            await other.wait_stopped()
        with pytest.raises(NodeError):
            await other.call(node.peer_id, "Test.unary", b"")
    stream.close()
    await other.close()


async def test_unreachable_bootstrap_is_an_error_after_the_given_time() -> None:
    """The node tries again until then, because a bootstrap may still be starting."""
    nobody = "/ip4/127.0.0.1/tcp/9/p2p/QmedTaZXmULqwspJXz44SsPZyTNKxhnnFvYRajfH7MGhCY"

    with pytest.raises(NodeError, match="cannot join the swarm"):
        await HivemindNode.start(NodeSettings(initial_peers=[nobody], startup_timeout_s=1))


async def test_address_that_is_taken_is_one_sentence(node: HivemindNode) -> None:
    """An address that cannot be used is said by the daemon itself."""
    with pytest.raises(NodeError, match="did not start; it said"):
        await HivemindNode.start(NodeSettings(host_maddrs=["/ip4/127.0.0.1/tcp/notaport"]))


async def test_identity_file_gives_the_same_peer_id(tmp_path: Path) -> None:
    """A server keeps its name over restarts."""
    path = tmp_path / "keys" / "identity"
    expected = make_identity(path)

    node = await HivemindNode.start(NodeSettings(identity_path=path))
    await node.close()

    assert node.peer_id == expected == make_identity(path)
    assert path.stat().st_mode & 0o077 == 0


def test_file_that_is_no_identity_is_refused(tmp_path: Path) -> None:
    """It is not overwritten either."""
    path = tmp_path / "identity"
    path.write_text("hello")

    with pytest.raises(NodeError, match="is not an identity file"):
        make_identity(path)
    assert path.read_text() == "hello"


def test_a_place_for_no_identity_is_refused_with_the_reason() -> None:
    """Its directory is there, but takes no files."""
    with pytest.raises(NodeError, match="/proc/identity: no file can be made there"):
        make_identity(Path("/proc/identity"))


async def test_a_peer_without_dht_handlers_answers_a_ping(node: HivemindNode) -> None:
    """As relayed servers and clients are: "not supported" is an answer, from whoever is alive."""
    settings = NodeSettings(initial_peers=node.maddrs, client_mode=True)
    client = await HivemindNode.start(settings)
    try:
        with pytest.raises(ProtocolNotSupportedError):
            await node.call(client.peer_id, "DHTProtocol.rpc_ping", b"")

        assert 0 < await node.ping(client.peer_id) < 5
    finally:
        await client.close()


async def test_a_swarm_that_was_gone_and_came_back_is_found_again(tmp_path: Path) -> None:
    """A gateway outlives all of its servers, the bootstrap peer among them."""
    settings = NodeSettings(
        host_maddrs=[f"/ip4/127.0.0.1/tcp/{free_port()}"], identity_path=tmp_path / "identity"
    )
    make_identity(tmp_path / "identity")
    first = await HivemindNode.start(settings)
    client = await HivemindNode.start(NodeSettings(initial_peers=first.maddrs, client_mode=True))
    try:
        await first.close()
        assert not await client.lookup(["news"])

        second = await HivemindNode.start(settings)
        try:
            await second.store([RecordEntry("news", "here", 1)], ttl_s=60)
            async with asyncio.timeout(15):
                while not await client.lookup(["news"]):  # noqa: ASYNC110  (nobody tells of it)
                    await asyncio.sleep(0.1)
        finally:
            await second.close()
    finally:
        await client.close()
