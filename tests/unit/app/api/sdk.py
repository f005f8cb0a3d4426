"""The official SDKs as callers of the app, without a socket."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anthropic
import httpx2
import openai
from fastapi import FastAPI

from app.settings import Settings
from tests.harness.scripted_engine import ScriptedEngine, running_app


def openai_sdk_of(app: FastAPI, api_key: str = "any-key") -> openai.AsyncOpenAI:
    """Return OpenAI's client of a running app."""
    return openai.AsyncOpenAI(
        api_key=api_key,
        base_url="http://gateway/v1",
        max_retries=0,
        http_client=httpx2.AsyncClient(transport=httpx2.ASGITransport(app)),
    )


@asynccontextmanager
async def openai_sdk(
    engine: ScriptedEngine, settings: Settings | None = None, api_key: str = "any-key"
) -> AsyncIterator[openai.AsyncOpenAI]:
    """Run the app, and yield OpenAI's client of it."""
    async with running_app(engine, settings) as app, openai_sdk_of(app, api_key) as client:
        yield client


@asynccontextmanager
async def anthropic_sdk(
    engine: ScriptedEngine, settings: Settings | None = None, api_key: str = "any-key"
) -> AsyncIterator[anthropic.AsyncAnthropic]:
    """Run the app, and yield Anthropic's client of it."""
    async with (
        running_app(engine, settings) as app,
        anthropic.AsyncAnthropic(
            api_key=api_key,
            base_url="http://gateway",
            max_retries=0,
            http_client=httpx2.AsyncClient(transport=httpx2.ASGITransport(app)),
        ) as client,
    ):
        yield client
