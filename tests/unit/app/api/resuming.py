"""Callers who come back: what they collect, and two workers on one store."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI

from app.settings import Settings
from tests.harness.asgi_callers import RequestCaller
from tests.harness.scripted_engine import ScriptedEngine, running_app
from tests.harness.shared_store import shared_store


@dataclass(slots=True)
class Heard:
    """What a caller has received of a stream, over all of its connections."""

    text: str = ""
    last_id: str | None = None
    comments: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    finish_reasons: list[str] = field(default_factory=list)
    usage: dict[str, int] | None = None
    is_done: bool = False

    def take(self, chunk: bytes) -> None:
        """Read some whole events."""
        for event in chunk.decode().split("\n\n")[:-1]:
            lines = dict(line.split(": ", 1) for line in event.split("\n"))
            if "" in lines:
                self.comments.append(lines[""])
                continue
            self.last_id = lines.get("id", self.last_id)
            if lines["data"] == "[DONE]":
                self.is_done = True
            else:
                self._take_frame(json.loads(lines["data"]))

    def _take_frame(self, frame: dict[str, Any]) -> None:
        if "error" in frame:
            self.errors.append(frame["error"]["code"])
            return
        self.usage = frame.get("usage") or self.usage
        for choice in frame["choices"]:
            self.text += choice.get("text") or choice.get("delta", {}).get("content", "")
            if choice["finish_reason"] is not None:
                self.finish_reasons.append(choice["finish_reason"])

    async def listen(self, caller: RequestCaller, until: str | None = None) -> None:
        """Take an answer until its text ends so, or to the end of the stream."""
        assert await caller.status() == 200
        await self.listen_on(caller, until)

    async def listen_on(self, caller: RequestCaller, until: str | None = None) -> None:
        """Take more of it."""
        while until is None or not self.text.endswith(until):
            message = await caller.next_message()
            self.take(message.get("body", b""))
            if not message.get("more_body"):
                return


@asynccontextmanager
async def two_workers(
    first: ScriptedEngine, second: ScriptedEngine, settings: Settings
) -> AsyncGenerator[tuple[FastAPI, FastAPI]]:
    """Run two gateways on one store."""
    store = shared_store()
    async with (
        running_app(first, settings, store) as one,
        running_app(second, settings, store) as two,
    ):
        yield one, two
