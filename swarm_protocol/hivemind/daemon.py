"""hivemind's libp2p daemon (`p2pd`) as a child process that we start, watch and end.

hivemind's own `P2P.create` starts it without a parent-death signal and does not notice its death:
calls in flight then wait for ever. Here a death is an event (`stopped`), and the daemon goes when
we go. Arguments mirror `P2P.create`, so Petals peers see no difference.
"""

import asyncio
import os
import secrets
from asyncio import StreamReader, StreamWriter
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

from hivemind.p2p import P2P, PeerID
from hivemind.p2p.p2p_daemon_bindings.utils import raise_if_failed, read_pbmsg_safe, write_pbmsg
from hivemind.proto.p2pd_pb2 import ConnectRequest, Request, Response, StreamOpenRequest
from hivemind.utils.multiaddr import Multiaddr

from swarm_protocol.detached_tasks import start_detached
from swarm_protocol.errors import NodeError
from swarm_protocol.hivemind.frames import STREAM_BUFFER_BYTES
from swarm_protocol.identifiers import PeerId
from swarm_protocol.logs import get_logger
from swarm_protocol.node import MAX_UNARY_BYTES
from swarm_protocol.parent_death import die_with_parent

log = get_logger(__name__)

_IDLE_TIMEOUT_S: Final = 30
_STOP_TIMEOUT_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class DaemonArguments:
    """What differs between daemons; everything else is fixed here."""

    initial_peers: Sequence[str]
    host_maddrs: Sequence[str]
    announce_maddrs: Sequence[str]
    identity_path: Path | None
    client_mode: bool

    def command(self, control_maddr: str) -> list[str]:
        """Return program and arguments of the daemon."""
        only_loopback = all("/127.0.0.1/" in m or "/ip6/::1/" in m for m in self.host_maddrs)
        flags: dict[str, object] = {
            "autoRelay": 0,
            "autonat": int(not only_loopback),
            "b": int(bool(self.initial_peers)),
            "connManager": 1,
            "idleTimeout": f"{_IDLE_TIMEOUT_S}s",
            "listen": control_maddr,
            "natPortMap": int(not only_loopback),
            "relay": 1,
            "relayHopLimit": 0,
            "tls": 1,
            "persistentConnMaxMsgSize": MAX_UNARY_BYTES,
            "dhtClient" if self.client_mode else "dhtServer": 1,
        }
        lists = {
            "bootstrapPeers": self.initial_peers,
            "hostAddrs": self.host_maddrs,
            "announceAddrs": self.announce_maddrs,
        }
        flags |= {name: ",".join(maddrs) for name, maddrs in lists.items() if maddrs}
        if self.identity_path is not None:
            flags["id"] = self.identity_path
        program = str(files("hivemind.hivemind_cli").joinpath("p2pd"))
        return [program, *(f"-{name}={value}" for name, value in flags.items())]


def make_identity(path: Path) -> PeerId:
    """Read the private key in `path`, making a new one if there is none; return its peer id.

    Raises:
        NodeError: the file cannot be read or written, or holds something else.
    """
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            P2P.generate_identity(str(path))
        return PeerId(PeerID.from_identity(path.read_bytes()).to_base58())
    except OSError as error:
        reason = error.strerror or "no file can be made there"  # hivemind blames the directory
        raise NodeError(f"cannot use the identity file {path}: {reason}") from error
    except Exception as error:  # protobuf and the key parser raise classes of their own
        raise NodeError(f"{path} is not an identity file") from error


class Daemon:
    """A running `p2pd`. `stopped` is set when it has ended, for whatever reason."""

    def __init__(self, process: asyncio.subprocess.Process, control_maddr: str) -> None:
        self.stopped = asyncio.Event()
        self._process = process
        self._control_maddr = control_maddr
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._last_lines: deque[str] = deque(maxlen=5)
        self._reader = start_detached(self._read_output())

    @classmethod
    async def start(cls, arguments: DaemonArguments, timeout_s: float) -> "Daemon":
        """Start a daemon and wait until it listens.

        Raises:
            NodeError: it ended, or was not ready in time; the message holds its last word.
        """
        control_maddr = f"/unix/tmp/hivemind-p2pd-{secrets.token_urlsafe(8)}.sock"
        process = await asyncio.create_subprocess_exec(
            *die_with_parent(arguments.command(control_maddr)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "GOLOG_LOG_LEVEL": "error", "GOLOG_LOG_FMT": "json"},
        )
        daemon = cls(process, control_maddr)
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.shield(daemon._ready)
        except TimeoutError as error:
            await daemon.stop()
            raise NodeError(f"the libp2p daemon was not ready within {timeout_s:.0f} s") from error
        except BaseException:
            await daemon.stop()
            raise
        return daemon

    async def connect(self) -> P2P:
        """Return hivemind's handle on this daemon."""
        return await P2P.replicate(Multiaddr(self._control_maddr))

    async def open_stream(self, peer: PeerID, method: str) -> tuple[StreamReader, StreamWriter]:
        """Open a stream of `method` to `peer`; its bytes go through the returned pair.

        hivemind's own way leaves the socket open when this fails or is cancelled.

        Raises:
            ControlFailure: the daemon cannot open it; the text says why.
            OSError, IncompleteReadError: the daemon does not answer.
        """
        wanted = StreamOpenRequest(peer=peer.to_bytes(), proto=[method])
        _, reader, writer = await self._ask(Request(type=Request.STREAM_OPEN, streamOpen=wanted))
        return reader, writer

    async def connect_to(self, peer: PeerID, maddrs: Sequence[str], *, timeout_s: int) -> None:
        """Connect with a peer at these addresses, or those that libp2p knows of it.

        Raises:
            ControlFailure: nobody answers there, or libp2p pauses after earlier failures.
            OSError, IncompleteReadError: the daemon does not answer.
        """
        suffix = f"/p2p/{peer.to_base58()}"
        addrs = [Multiaddr(maddr.removesuffix(suffix)).to_bytes() for maddr in maddrs]
        wanted = ConnectRequest(peer=peer.to_bytes(), addrs=addrs, timeout=timeout_s)
        _, _, writer = await self._ask(Request(type=Request.CONNECT, connect=wanted))
        writer.close()

    async def connections(self) -> Mapping[PeerId, Sequence[str]]:
        """Return the addresses at which we are connected with others.

        Raises:
            ControlFailure, OSError, IncompleteReadError: the daemon does not answer.
        """
        response, _, writer = await self._ask(Request(type=Request.LIST_PEERS))
        writer.close()
        return {
            PeerId(PeerID(info.id).to_base58()): [str(Multiaddr(addr)) for addr in info.addrs]
            for info in response.peers
        }

    async def _ask(self, request: Request) -> tuple[Response, StreamReader, StreamWriter]:
        """Return the answer to a request, and the ends of its socket, which become the caller's."""
        path = self._control_maddr.removeprefix("/unix")
        reader, writer = await asyncio.open_unix_connection(path, limit=STREAM_BUFFER_BYTES)
        try:
            await write_pbmsg(writer, request)
            response = Response()
            await read_pbmsg_safe(reader, response)
            raise_if_failed(response)
        except BaseException:
            writer.close()
            raise
        return response, reader, writer

    async def stop(self) -> None:
        """End the daemon. Idempotent."""
        with suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(_STOP_TIMEOUT_S):
                await self._process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        await asyncio.wait([self._reader])
        if self._ready.done() and not self._ready.cancelled():
            self._ready.exception()  # a failure nobody waited for is not worth a warning

    async def _read_output(self) -> None:
        """Keep the pipe empty until it closes; a line of the daemon's says that it is ready."""
        assert self._process.stdout is not None, "created with a pipe"
        while raw_line := await _next_line(self._process.stdout):
            line = raw_line.decode(errors="replace").strip()
            self._last_lines.append(line)
            log.debug("daemon_said", line=line)
            if line.startswith("Peer ID:") and not self._ready.done():
                self._ready.set_result(None)
        await self._process.wait()
        self.stopped.set()
        with suppress(FileNotFoundError):
            os.unlink(self._control_maddr.removeprefix("/unix"))  # noqa: PTH108  (one syscall)
        if not self._ready.done():
            self._ready.set_exception(NodeError(self._why_not_started()))

    def _why_not_started(self) -> str:
        said = self._last_lines[-1] if self._last_lines else "nothing"
        if "failed to connect to bootstrap peers" in said:
            return "cannot join the swarm: none of its initial peers answers"
        return f"the libp2p daemon did not start; it said: {said}"


async def _next_line(output: StreamReader) -> bytes:
    """Return a line, or the end of one that is over the reader's limit; nothing at the end."""
    while True:
        try:
            return await output.readline()
        except ValueError:  # what has come of such a line is gone
            continue
