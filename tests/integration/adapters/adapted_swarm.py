"""Two servers that hold two adapters, and clients that want one, the other, or none."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from swarm_client.connection import RemoteModel, SwarmConnection
from swarm_client.models import LocalParts, load_local_parts, read_facts
from swarm_client.session import InferenceSession
from swarm_protocol.checkpoint import Checkpoint
from swarm_protocol.memory_node import MemoryNetwork
from swarm_server.server import BlockServer
from swarm_server.settings import ServerSettings
from tests.harness.lora_adapters import save_lora
from tests.harness.server_swarm import server_swarm

SOME_MODULES = ("q_proj", "v_proj", "query_key_value", "dense_h_to_4h")
ALL_MODULES = (
    *("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    *("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"),
)
PROMPTS = torch.randint(6, 262, (2, 11), generator=torch.Generator().manual_seed(1))


@dataclass(frozen=True, slots=True)
class AdaptedSwarm:
    """A swarm, and one client of it for each adapter."""

    network: MemoryNetwork
    servers: list[BlockServer]
    parts: LocalParts
    remotes: dict[str | None, RemoteModel]

    async def open_session(self, adapter: str | None) -> InferenceSession:
        return await self.remotes[adapter].open_session(max_length=32, batch_size=len(PROMPTS))

    async def logits(self, session: InferenceSession, token_ids: Tensor) -> Tensor:
        """Continue a session; float32 [batch, num_tokens, vocab_size]."""
        return self.parts.logits(await session.step(self.parts.embed(token_ids)))

    async def prefill(self, adapter: str | None) -> Tensor:
        """Return the logits of `PROMPTS` in a session of their own."""
        async with await self.open_session(adapter) as session:
            return await self.logits(session, PROMPTS)


def save_two_adapters(directory: Path, model: Path) -> tuple[Path, Path]:
    """Save `some` and `all`: of different ranks, for some and for all linear modules."""
    return (
        save_lora(directory / "some", model, SOME_MODULES, seed=1, rank=2, alpha=3),
        save_lora(directory / "all", model, ALL_MODULES, seed=2, rank=4, alpha=2, use_rslora=True),
    )


@asynccontextmanager
async def adapted_swarm(
    model: Path,
    adapters: Sequence[Path],
    splits: Sequence[str] = ("0:2", "2:4"),
    network: MemoryNetwork | None = None,
) -> AsyncIterator[AdaptedSwarm]:
    checkpoint = Checkpoint.open(str(model))
    facts = read_facts(checkpoint)
    settings = ServerSettings(
        model=str(model), dtype="float32", threads=1, adapters=tuple(map(str, adapters))
    )
    async with server_swarm(model, splits, settings, network) as (network, servers):
        connection = SwarmConnection(network.node("client"))
        names = [None, *(adapter.name for adapter in adapters)]
        remotes = {name: await connection.watch(facts, active_adapter=name) for name in names}
        parts = load_local_parts(checkpoint, dtype=torch.float32)
        yield AdaptedSwarm(network, servers, parts, remotes)
        await connection.close()


@torch.no_grad()
def logits_of(model: PreTrainedModel) -> Tensor:
    """Return what transformers makes of `PROMPTS`."""
    logits: Tensor = model.eval()(PROMPTS).logits
    return logits
