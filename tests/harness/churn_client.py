"""A caller of the library that notes when each token came, and looks on while servers die."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Protocol

import torch
from torch import Tensor

from swarm_client.connection import RemoteModel, SwarmConnection
from swarm_client.generation.parameters import SamplingParameters
from swarm_client.generation.sampler import sample_tokens
from swarm_client.generation.sampler_row import SamplerRow
from swarm_client.models import LocalParts, load_local_parts, read_facts
from swarm_client.session import InferenceSession, SessionEvent
from swarm_client.settings import RoutingSettings
from swarm_protocol.checkpoint import Checkpoint
from swarm_protocol.hivemind import HivemindNode, NodeSettings
from tests.harness.churn_gaps import Generation

_FIRST_WORD = 6  # token ids below are special in the models of the tests


class Onlooker(Protocol):
    """Is told how a generation goes, and may do something about it."""

    def prefill_begins(self, session: InferenceSession) -> None:
        """The prompt is about to be sent."""

    async def token_came(self, num_tokens: int) -> None:
        """There are so many tokens now. The next step begins when this returns."""

    def event_came(self, event: SessionEvent) -> None:
        """The session has something to tell."""


class ChurnClient:
    """One model of a swarm. Made by `churn_client`."""

    def __init__(self, remote: RemoteModel, parts: LocalParts) -> None:
        self.remote = remote
        self.parts = parts

    def prompt(self, seed: int, num_tokens: int) -> tuple[int, ...]:
        """Return random words: a wrong KV cache shows in what follows them."""
        random = Random(seed)
        vocab_size = self.remote.facts.vocab_size
        return tuple(random.randrange(_FIRST_WORD, vocab_size) for _ in range(num_tokens))

    async def generate(
        self,
        prompt: Sequence[int],
        num_tokens: int,
        *,
        seed: int | None = None,
        onlooker: Onlooker | None = None,
    ) -> Generation:
        """Make tokens, and do not stop at the end of the text.

        Args:
            prompt: token ids, at least one.
            num_tokens: to be made.
            seed: of the sampling; None is greedy.
            onlooker: told in between; its time is that of no token.
        """
        row = SamplerRow(SamplingParameters(do_sample=seed is not None), (), Random(seed))
        tokens: list[int] = []
        seconds: list[float] = []
        max_length = len(prompt) + num_tokens
        on_event = None if onlooker is None else onlooker.event_came
        session = await self.remote.open_session(max_length=max_length, on_event=on_event)
        async with session:
            token_ids = prompt
            if onlooker is not None:
                onlooker.prefill_begins(session)
            while len(tokens) < num_tokens:
                started_at = time.perf_counter()
                tokens.extend(sample_tokens(await self._logits(session, token_ids), [row]))
                seconds.append(time.perf_counter() - started_at)
                token_ids = tokens[-1:]
                if onlooker is not None:
                    await onlooker.token_came(len(tokens))
        return Generation(tuple(tokens), tuple(seconds))

    async def _logits(self, session: InferenceSession, token_ids: Sequence[int]) -> Tensor:
        output = await session.step(self.parts.embed(torch.tensor([token_ids])))
        return self.parts.logits(output[:, -1])


@asynccontextmanager
async def churn_client(
    model: Path | str, maddr: str, *, dtype: torch.dtype, settings: RoutingSettings | None = None
) -> AsyncIterator[ChurnClient]:
    """Join the swarm at `maddr` with a node of its own, and leave it at the end."""
    checkpoint = Checkpoint.open(str(model))
    parts = load_local_parts(checkpoint, dtype=dtype)
    node = await HivemindNode.start(NodeSettings(initial_peers=(maddr,), client_mode=True))
    connection = SwarmConnection(node, settings)
    try:
        yield ChurnClient(await connection.watch(read_facts(checkpoint)), parts)
    finally:
        await connection.close()
        await node.close()
