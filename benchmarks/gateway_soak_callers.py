"""Callers of a soak: they come, ask, read to the end or leave, and count what became of it."""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from enum import StrEnum
from random import Random
from typing import Any, Final, TypeAlias

import httpx2
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

_TIMEOUT_S: Final = 60.0
_QUESTIONS: Final = (
    "What is the capital of Japan?",
    "Tell me a story about a fox named Lily.",
    "My name is Zoe. What is my name?",
)


class Fate(StrEnum):
    """What became of a generation that was asked for, as its caller sees it."""

    FINISHED = "finished"
    REFUSED = "refused"
    CANCELLED = "cancelled"
    FAILED = "failed"


class Tally:
    """How many were asked for, and what became of them."""

    def __init__(self) -> None:
        self.num_started = 0
        self.fates = Counter[Fate]()
        self.failures = Counter[str]()

    @property
    def adds_up(self) -> bool:
        """Whether each has had exactly one fate."""
        return self.num_started == self.fates.total()

    def fail(self, kind: str, error: object) -> Fate:
        """Note why one failed."""
        self.failures[f"{kind}: {error}"[:120]] += 1
        return Fate.FAILED


class SoakCallers:
    """A mix of callers of one gateway, each the next as soon as one has done."""

    def __init__(self, port: int, random: Random) -> None:
        self._url = f"http://127.0.0.1:{port}"
        self._socket_url = f"ws://127.0.0.1:{port}/api/v2/generate"
        self._random = random
        self.tally = Tally()
        self._kinds: list[tuple[int, Call]] = [
            (3, self._whole),
            (6, self._stream),
            (2, self._leave_stream),
            (1, self._nonsense),
            (3, self._converse),
            (1, self._vanish),
        ]

    async def come_and_go(self, until: Callable[[], bool]) -> None:
        """Ask one after the other."""
        weights, kinds = zip(*self._kinds, strict=True)
        async with httpx2.AsyncClient(base_url=self._url, timeout=_TIMEOUT_S) as client:
            while not until():
                await self._random.choices(kinds, weights)[0](client)

    async def _whole(self, client: httpx2.AsyncClient) -> None:
        await self._count("whole", self._ask(client, stream=False))

    async def _stream(self, client: httpx2.AsyncClient) -> None:
        await self._count("stream", self._read(client, max_lines=None))

    async def _leave_stream(self, client: httpx2.AsyncClient) -> None:
        await self._count("leave", self._read(client, max_lines=self._random.randint(4, 30)))

    async def _nonsense(self, client: httpx2.AsyncClient) -> None:
        await self._count("nonsense", self._ask(client, stream=False, temperature=-1))

    async def _converse(self, _: httpx2.AsyncClient) -> None:
        async with connect(self._socket_url, compression=None) as socket:
            await _open(socket)
            for _turn in range(2):
                await self._count("turn", self._take_turn(socket, max_replies=None))

    async def _vanish(self, _: httpx2.AsyncClient) -> None:
        async with connect(self._socket_url, compression=None) as socket:
            await _open(socket)
            await self._count("vanish", self._take_turn(socket, max_replies=3))
            socket.transport.abort()

    async def _count(self, kind: str, asking: Awaitable[Fate]) -> None:
        self.tally.num_started += 1
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                fate = await asking
        except (httpx2.HTTPError, WebSocketException, OSError, TimeoutError) as error:
            fate = self.tally.fail(kind, repr(error))
        self.tally.fates[fate] += 1

    async def _ask(self, client: httpx2.AsyncClient, **fields: Any) -> Fate:
        answer = await client.post("/v1/chat/completions", json=self._body(**fields))
        return self._fate_of(answer.status_code, "whole")

    async def _read(self, client: httpx2.AsyncClient, *, max_lines: int | None) -> Fate:
        body = self._body(stream=True)
        num_lines = 0
        async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            if answer.status_code != 200:
                return self._fate_of(answer.status_code, "stream")
            async for line in answer.aiter_lines():
                num_lines += 1
                if line == "data: [DONE]":
                    return Fate.FINISHED
                if line.startswith('data: {"error"'):
                    return self.tally.fail("stream", line)
                if num_lines == max_lines:
                    return Fate.CANCELLED
        return self.tally.fail("stream", "it ended without an end")

    async def _take_turn(self, socket: ClientConnection, *, max_replies: int | None) -> Fate:
        text = f"<|user|>{self._random.choice(_QUESTIONS)}<|end|><|assistant|>"
        request = {"type": "generate", "inputs": text, "stop_sequence": "<|end|>"}
        await socket.send(json.dumps({**request, "max_new_tokens": 1}))
        num_replies = 0
        while True:
            reply = json.loads(await socket.recv())
            if not reply["ok"]:
                return self.tally.fail("turn", reply["traceback"])
            num_replies += 1
            if reply["stop"]:
                return Fate.FINISHED
            if num_replies == max_replies:
                return Fate.CANCELLED

    def _fate_of(self, status: int, kind: str) -> Fate:
        if status == 200:
            return Fate.FINISHED
        return Fate.REFUSED if status < 500 or status == 503 else self.tally.fail(kind, status)

    def _body(self, **fields: Any) -> dict[str, Any]:
        question = {"role": "user", "content": self._random.choice(_QUESTIONS)}
        max_tokens = self._random.randint(8, 60)
        return {"model": "demo", "messages": [question], "max_tokens": max_tokens, **fields}


Call: TypeAlias = Callable[[httpx2.AsyncClient], Awaitable[None]]


async def _open(socket: ClientConnection) -> None:
    opening = {"type": "open_inference_session", "model": "demo", "max_length": 400}
    await socket.send(json.dumps(opening))
    reply = json.loads(await socket.recv())
    if not reply["ok"]:
        raise ConnectionError(reply["traceback"])
