"""An engine in front of two block servers, all in this process, and how tests drive it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from transformers import LlamaForCausalLM

from app.inference.engine import EngineSettings, SwarmEngine
from app.inference.requests import (
    Conversation,
    Engine,
    GenerationEvent,
    GenerationRequest,
    RequestId,
)
from swarm_client.connection import SwarmConnection
from swarm_client.settings import RoutingSettings
from swarm_protocol.memory_node import MemoryNetwork
from swarm_server.server import BlockServer
from tests.harness.server_swarm import server_swarm

_WAIT_S: Final = 0.3


@dataclass(frozen=True, slots=True)
class Swarm:
    """What a test looks at."""

    network: MemoryNetwork
    servers: Sequence[BlockServer]
    engine: SwarmEngine
    model_id: str

    async def open(self, *, max_length: int = 64) -> Conversation:
        engine: Engine = self.engine  # as the surfaces know it
        return await engine.open(self.model_id, max_length=max_length)

    async def encode(self, text: str) -> tuple[int, ...]:
        return tuple(await self.engine.model(self.model_id).encode(text))

    def decode(self, ids: Sequence[int]) -> str:
        tokenizer = self.engine.model(self.model_id).tokenizer
        return tokenizer.decoder(keeps_special_tokens=False)(ids)

    async def until_idle(self) -> None:
        """Wait until no server holds KV memory of anybody."""
        await until(lambda: not any(server.num_sessions for server in self.servers))


async def until(is_true: Callable[[], bool]) -> None:
    """Let the other tasks run until they have made it true."""
    async with asyncio.timeout(5):
        while not is_true():  # noqa: ASYNC110 - servers have no event to wait for
            await asyncio.sleep(0.001)


@asynccontextmanager
async def swarm_of(model: Path, *standby: str) -> AsyncIterator[Swarm]:
    """Yield a swarm that is idle: its first canary is over. `standby` are blocks held twice."""
    async with server_swarm(model, ["0:2", "2:4", *standby]) as (network, servers):
        node = network.node("gateway")
        connection = SwarmConnection(node, RoutingSettings(ban_s=0.001, wait_for_blocks_s=_WAIT_S))
        settings = EngineSettings(
            models=(str(model),),
            dtype="float32",
            canary_period_s=3600,
            wait_for_blocks_s=_WAIT_S,
        )
        engine = await SwarmEngine.start(connection, settings)
        swarm = Swarm(network, servers, engine, model.name)
        try:
            await until(lambda: engine.model(model.name).last_canary().ok)
            await swarm.until_idle()
            yield swarm
        finally:
            await engine.close()
            await connection.close()
            await node.close()


@dataclass(frozen=True, slots=True)
class LocalModel:
    """transformers on the same weights: what all output must equal."""

    model: LlamaForCausalLM

    def continue_greedily(self, ids: Sequence[int], num_tokens: int) -> tuple[int, ...]:
        """Return the new tokens only; nothing ends them early."""
        output = self.model.generate(
            torch.tensor([list(ids)]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.int64),
            max_new_tokens=num_tokens,
            do_sample=False,
            eos_token_id=None,
        )
        return tuple(output[0, len(ids) :].tolist())


def request_of(
    prompt_ids: Sequence[int], max_new_tokens: int = 8, **fields: Any
) -> GenerationRequest:
    """Return a request, greedy unless said otherwise."""
    return GenerationRequest(
        request_id=RequestId("r"),
        prompt_ids=tuple(prompt_ids),
        max_new_tokens=max_new_tokens,
        **fields,
    )


async def collect(conversation: Conversation, request: GenerationRequest) -> list[GenerationEvent]:
    """Run a generation to its end."""
    return [event async for event in conversation.generate(request)]


def text_of(events: Sequence[GenerationEvent]) -> str:
    """All the text of a generation."""
    return "".join(event.text for event in events)
