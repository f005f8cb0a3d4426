"""Callers of a gateway over bare sockets, cheap enough to measure one: OpenAI's chat dialect as
server-sent events, one or many connections. Any gateway that speaks it can be called.
"""

import asyncio
import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from statistics import quantiles
from time import monotonic
from typing import Final, cast

TOKEN: Final = b'"content":"@'
_STAMP: Final = re.compile(rb'"content":"@(\d+);')
_LAST_CHUNK: Final = b"0\r\n\r\n"
_TIMEOUT_S: Final = 60.0
_SHORT_TIMEOUT_S: Final = 20.0  # of answers of a few tokens


@dataclass(frozen=True, slots=True)
class Target:
    """A gateway on loopback."""

    port: int
    path: str = "/v1/chat/completions"

    def request(self, *, step_ms: int, num_tokens: int) -> bytes:
        """Return a request for a stream of tokens at a set pace; 0 is as fast as it goes."""
        body = json.dumps(
            {
                "model": "demo",
                "messages": [{"role": "user", "content": str(step_ms)}],
                "max_tokens": num_tokens,
                "stream": True,
            }
        )
        return (
            f"POST {self.path} HTTP/1.1\r\nhost: 127.0.0.1:{self.port}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}"
        ).encode()


@dataclass(slots=True)
class Answer:
    """What came of one request. Times are readings of the monotonic clock.

    Attributes:
        delays_s: of each token, from when it was due; of a paced stream only.
    """

    sent_at: float
    first_byte_at: float = 0.0
    first_token_at: float = 0.0
    num_tokens: int = 0
    is_ok: bool = False

    @property
    def is_refused(self) -> bool:
        """Whether there was an answer, and it was another one than a stream."""
        return self.first_byte_at > 0 and not self.is_ok


class Connection(asyncio.Protocol):
    """One kept-alive connection, for one streamed answer at a time.

    Args:
        delays_s: takes the delay of each token of paced streams, if given.
    """

    def __init__(self, delays_s: list[float] | None = None) -> None:
        self._delays_s = delays_s
        self._tail = b""
        self._answer = Answer(0.0)
        self._ended: asyncio.Future[Answer] | None = None

    async def ask(self, request: bytes, timeout_s: float = _TIMEOUT_S) -> Answer:
        """Ask, and return when the answer has ended or the connection is lost."""
        self._tail = b""
        self._answer = Answer(monotonic())
        self._ended = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        async with asyncio.timeout(timeout_s):
            return await self._ended

    @property
    def num_tokens(self) -> int:
        """How many have come of the answer so far."""
        return self._answer.num_tokens

    def close(self) -> None:
        """Break it off."""
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass of it

    def data_received(self, data: bytes) -> None:
        """Count and time what comes."""
        now, answer = monotonic(), self._answer
        if not answer.first_byte_at:
            answer.first_byte_at = now
            answer.is_ok = data.startswith(b"HTTP/1.1 200")
        num_tokens = data.count(TOKEN)
        if num_tokens and not answer.num_tokens:
            answer.first_token_at = now
        answer.num_tokens += num_tokens
        if self._delays_s is not None:
            self._delays_s += [now - int(stamp) / 1e6 for stamp in _STAMP.findall(data)]
        self._tail = (self._tail + data[-5:])[-5:]
        if self._tail == _LAST_CHUNK or not answer.is_ok:
            self._end()

    def connection_lost(self, error: Exception | None) -> None:
        """Whoever asks gets what has come."""
        self._end()

    def _end(self) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(self._answer)


async def connect(target: Target, delays_s: list[float] | None = None) -> Connection:
    """Open a connection."""
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(
        lambda: Connection(delays_s), "127.0.0.1", target.port
    )
    return connection


async def ask_at_rate(
    target: Target, *, rate_per_s: float, duration_s: float, num_tokens: int
) -> tuple[list[Answer], int]:
    """Ask at a set rate, whatever becomes of earlier requests; return the answers, and how many
    failed. Connections are kept alive and used again.
    """
    idle: list[Connection] = []
    answers: list[Answer] = []
    request = target.request(step_ms=0, num_tokens=num_tokens)
    num_failed = 0

    async def ask_once() -> None:
        nonlocal num_failed
        connection = idle.pop() if idle else await connect(target)
        answer = None
        with suppress(TimeoutError):
            answer = await connection.ask(request, _SHORT_TIMEOUT_S)
        if answer is not None and answer.num_tokens == num_tokens:
            answers.append(answer)
            idle.append(connection)
        else:
            num_failed += 1
            connection.close()

    begun_at = monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(int(rate_per_s * duration_s)):
            await asyncio.sleep(max(0.0, begun_at + number / rate_per_s - monotonic()))
            group.create_task(ask_once())
    for connection in idle:
        connection.close()
    return answers, num_failed


def in_ms(seconds: Sequence[float]) -> dict[str, float]:
    """Return the quantiles of durations, in milliseconds; none of fewer than two."""
    if len(seconds) < 2:
        return {}
    cuts = quantiles(seconds, n=1000)
    return {f"p{name}_ms": round(cuts[at] * 1000, 2) for name, at in (("50", 499), ("99", 989))}
