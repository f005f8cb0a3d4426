"""Sessions that do what callers do, in any order: prompts, steps, going back, leaving early."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor

from swarm_client.connection import RemoteModel
from swarm_client.models import LocalParts
from swarm_client.session import InferenceSession

_MAX_LENGTH = 96


@dataclass(frozen=True, slots=True)
class SessionPlan:
    """What one session will do. All of it follows from a seed.

    Attributes:
        adapter: of the session; None is the bare model.
        prompts: token ids; each is followed by greedy decoding and, but for the last, by going
            back.
        num_decoded: tokens to decode after each prompt.
        kept: which share of the session's tokens is kept when it goes back.
        is_cancelled: whether the caller leaves in the middle of the last step.
        num_pauses: turns of the event loop before it begins, and between its steps.
    """

    adapter: str | None
    prompts: tuple[tuple[int, ...], ...]
    num_decoded: int
    kept: float
    is_cancelled: bool
    num_pauses: int


def plan_session(seed: int, adapters: Sequence[str | None], vocab_size: int) -> SessionPlan:
    """Return the plan that belongs to a seed."""
    random = Random(seed)
    prompts = tuple(
        tuple(random.randrange(vocab_size) for _ in range(random.randint(1, 18)))
        for _ in range(random.randint(1, 3))
    )
    return SessionPlan(
        adapter=random.choice(adapters),
        prompts=prompts,
        num_decoded=random.randint(1, 8),
        kept=random.random(),
        is_cancelled=random.random() < 0.2,
        num_pauses=random.randint(0, 12),
    )


async def run_plan(plan: SessionPlan, remote: RemoteModel, parts: LocalParts) -> list[int]:
    """Return all tokens that the session has decoded, in order."""
    await _pause(plan.num_pauses)
    tokens: list[int] = []
    session = await remote.open_session(max_length=_MAX_LENGTH)
    async with session:
        for number, prompt in enumerate(plan.prompts):
            if number:
                session.roll_back(int(plan.kept * session.position))
            token_ids = prompt
            for _ in range(plan.num_decoded):
                token = await _step(session, parts, token_ids)
                tokens.append(token)
                token_ids = (token,)
                await _pause(plan.num_pauses // 4)
        if plan.is_cancelled:
            step = asyncio.ensure_future(_step(session, parts, (tokens[-1],)))
            await _pause(plan.num_pauses)
            step.cancel()
            await asyncio.wait({step})
    return tokens


async def _step(session: InferenceSession, parts: LocalParts, token_ids: Sequence[int]) -> int:
    # No grad mode is set across an await: it belongs to the thread, not to the task.
    output = await session.step(parts.embed(torch.tensor([token_ids])).detach())
    logits: Tensor = parts.logits(output[0, -1])
    return int(logits.argmax())


async def _pause(num_turns: int) -> None:
    for _ in range(num_turns):
        await asyncio.sleep(0)
