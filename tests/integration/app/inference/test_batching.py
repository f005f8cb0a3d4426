import asyncio
from threading import Event

import pytest
from torch import Tensor

from swarm_client.models import LocalParts
from tests.integration.app.inference.swarm import LocalModel, Swarm, collect, request_of, until


async def test_conversations_share_head_products_and_equal_those_alone(
    swarm: Swarm, local_model: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the first product is under way the other rows gather, and go together."""
    prompts = [await swarm.encode(text) for text in ("The cat", "Hello", "abc", "xyz ")]
    conversations = [await swarm.open() for _ in prompts]
    replicas = swarm.engine.model(swarm.model_id).replicas
    num_rows: list[int] = []
    are_gathered = Event()
    logits = LocalParts.logits

    def counted(parts: LocalParts, hidden: Tensor) -> Tensor:
        are_gathered.wait()
        num_rows.append(len(hidden))
        return logits(parts, hidden)

    monkeypatch.setattr(LocalParts, "logits", counted)
    num_before = replicas.num_head_calls
    async with asyncio.TaskGroup() as tasks:
        for conversation, prompt in zip(conversations, prompts, strict=True):
            tasks.create_task(collect(conversation, request_of(prompt, 6)))
        await until(
            lambda: (
                all(conversation.position for conversation in conversations)
                and replicas.num_waiting == len(prompts)
            )
        )
        are_gathered.set()

    in_first, in_second = num_rows[:2]  # how many were there when the first one began is chance
    assert in_first == len(prompts) or in_first + in_second == len(prompts)
    assert replicas.num_head_calls - num_before == len(num_rows) < 4 * 6
    for conversation, prompt in zip(conversations, prompts, strict=True):
        expected = local_model.continue_greedily(prompt, 6)
        assert tuple(conversation.token_ids) == prompt + expected
