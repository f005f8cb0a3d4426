"""Chats with the gateway's WebSocket, many at once in one loop, and when their tokens came."""

import asyncio
import json
import time
from dataclasses import dataclass
from string import ascii_letters
from typing import Final

from websockets.asyncio.client import connect

PROMPT_TOKENS: Final = 32
NEVER: Final = "\x00"  # a stop text that does not come, so that every token is a reply


@dataclass(frozen=True, slots=True)
class Chat:
    """When it asked and when each of its tokens came: readings of `perf_counter`."""

    asked_at: float
    token_times: tuple[float, ...]

    @property
    def first_token_s(self) -> float:
        """Time to its first token."""
        return self.token_times[0] - self.asked_at


def chat_at_once(port: int, num_chats: int, num_tokens: int) -> list[Chat]:
    """Hold that many chats at once, each with a prompt of its own; return when all have ended."""

    async def run() -> list[Chat]:
        ready = asyncio.Barrier(num_chats)
        async with asyncio.TaskGroup() as tasks:
            chats = [
                tasks.create_task(_chat(port, index, num_tokens, ready))
                for index in range(num_chats)
            ]
        return [chat.result() for chat in chats]

    return asyncio.run(run())


def tokens_per_s(chats: list[Chat]) -> float:
    """Return the tokens of all chats together per second, while every one was running.

    That is from the last chat's first token to the first chat's last one.
    """
    start = max(chat.token_times[0] for chat in chats)
    end = min(chat.token_times[-1] for chat in chats)
    num_tokens = sum(start < at <= end for chat in chats for at in chat.token_times)
    return num_tokens / (end - start)


def whole_tokens_per_s(chats: list[Chat]) -> float:
    """Return the same from the first question to the last token: prompts count as time."""
    start = min(chat.asked_at for chat in chats)
    end = max(chat.token_times[-1] for chat in chats)
    return sum(len(chat.token_times) for chat in chats) / (end - start)


def _prompt(index: int) -> str:
    """Return a text of `PROMPT_TOKENS` tokens, one for each letter, of its own for each chat."""
    return "".join(ascii_letters[(7 * index + place) % 52] for place in range(PROMPT_TOKENS))


async def _chat(port: int, index: int, num_tokens: int, ready: asyncio.Barrier) -> Chat:
    async with connect(f"ws://127.0.0.1:{port}/api/v2/generate", max_size=None) as socket:
        opening = {"type": "open_inference_session", "model": "bench", "max_length": 512}
        await socket.send(json.dumps(opening))
        assert json.loads(await socket.recv())["ok"] is True
        await ready.wait()
        asked_at = time.perf_counter()
        await socket.send(
            json.dumps(
                {
                    "type": "generate",
                    "inputs": _prompt(index),
                    "max_new_tokens": 1,
                    "stop_sequence": NEVER,
                }
            )
        )
        times: list[float] = []
        while len(times) < num_tokens:
            reply = json.loads(await socket.recv())
            assert reply["ok"] is True, reply
            times.extend([time.perf_counter()] * reply["token_count"])
    return Chat(asked_at, tuple(times))
