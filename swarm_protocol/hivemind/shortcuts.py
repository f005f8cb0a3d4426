"""Streams between processes of one user on one machine, past both of their daemons.

    process ── daemon ══ libp2p, encrypted ══ daemon ── process       0.3 ms a frame
    process ──────────────── socket ─────────────────── process       0.1 ms

A node listens on an abstract socket of Linux, named after its peer id. Who may connect is the
kernel's answer: the peer must be a process of our own user, which could read our key as well, so
its word for its peer id is taken. Abstract names belong to a network namespace: containers, and
machines that a test makes of namespaces, do not see each other here and go through libp2p.

The caller's first frame holds method and peer id; the answer is an empty frame, or the end of the
connection where the method is not served. Frames are those of `frames`.
"""

import asyncio
import os
import socket
import struct
import sys
from asyncio import IncompleteReadError
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from swarm_protocol.errors import MalformedMessageError
from swarm_protocol.hivemind.socket_end import SocketEnd
from swarm_protocol.identifiers import PeerId, parse_peer_id
from swarm_protocol.logs import get_logger

log = get_logger(__name__)

_MAX_OPENING_BYTES: Final = 512
_OPENING_TIMEOUT_S: Final = 5.0
_CREDENTIALS: Final = struct.Struct("3i")  # pid, uid, gid; SO_PEERCRED of unix(7)

StreamAnswer = Callable[[PeerId, SocketEnd], Awaitable[None]]
"""Serves one stream of a caller, whose opening has been read."""


class Shortcuts:
    """The listening end of one node, and its way to others. Create with `start`."""

    def __init__(self, peer_id: PeerId) -> None:
        self._peer_id = peer_id
        self._answers: dict[str, StreamAnswer] = {}
        self._server: asyncio.Server | None = None
        self._served = dict[SocketEnd, asyncio.Task[None]]()

    @classmethod
    async def start(cls, peer_id: PeerId, *, is_on: bool) -> "Shortcuts":
        """Listen, where the system can; if not, or not `is_on`, nobody is reached this way."""
        shortcuts = cls(peer_id)
        if is_on and sys.platform == "linux":
            try:
                await shortcuts._listen()
            except OSError as error:  # somebody else runs with our identity
                log.warning("shortcuts_unavailable", reason=error.strerror)
        return shortcuts

    def serve(self, method: str, answer: StreamAnswer) -> None:
        """Answer streams of `method`."""
        self._answers[method] = answer

    async def open(self, peer: PeerId, method: str) -> SocketEnd | None:
        """Return a stream of `method` to a peer on this machine; None if there is no such way."""
        if self._server is None:
            return None
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.setblocking(False)
        try:
            connection.connect(_address(peer))
            if not _is_own_user(connection):
                raise PermissionError
            loop = asyncio.get_running_loop()
            _, end = await loop.create_unix_connection(SocketEnd, sock=connection)
        except OSError:
            connection.close()
            return None
        except BaseException:
            connection.close()
            raise
        try:
            await end.write(f"{method}\n{self._peer_id}".encode())
            if await end.read() is not None:
                return end
        except (OSError, IncompleteReadError, MalformedMessageError):
            pass
        except BaseException:
            end.close()
            raise
        end.close()
        return None

    async def close(self) -> None:
        """Stop listening, and end the streams that are served. Idempotent."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for end in self._served:
            end.close()

    async def _listen(self) -> None:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.setblocking(False)
            listener.bind(_address(self._peer_id))
            loop = asyncio.get_running_loop()
            self._server = await loop.create_unix_server(
                lambda: SocketEnd(self._accept), sock=listener
            )
        except BaseException:
            listener.close()
            raise

    def _accept(self, end: SocketEnd) -> None:
        task = self._served[end] = asyncio.ensure_future(self._answer(end))
        task.add_done_callback(lambda _: self._served.pop(end))

    async def _answer(self, end: SocketEnd) -> None:
        try:
            with socket.socket(fileno=os.dup(end.fileno())) as connection:
                if not _is_own_user(connection):
                    return
            async with asyncio.timeout(_OPENING_TIMEOUT_S):
                opening = await end.read()
            method, caller = _parse_opening(opening)
            answer = self._answers[method]
            await end.write(b"")
            await answer(caller, end)
        except (OSError, IncompleteReadError, MalformedMessageError, TimeoutError, KeyError):
            return  # the caller has left, or takes libp2p's way, where it is told what is wrong
        finally:
            end.close()


def _address(peer: PeerId) -> str:
    return f"\0swarmgate/{peer}"


def _is_own_user(end: socket.socket) -> bool:
    credentials = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, user_id, _ = _CREDENTIALS.unpack(credentials)
    return bool(user_id == os.getuid())


def _parse_opening(frame: tuple[int, bytes] | None) -> tuple[str, PeerId]:
    if frame is None or len(frame[1]) > _MAX_OPENING_BYTES:
        raise MalformedMessageError("expected a method and a peer id")
    with suppress(ValueError):
        method, peer = frame[1].decode().split("\n")
        return method, parse_peer_id(peer)
    raise MalformedMessageError("expected a method and a peer id")
