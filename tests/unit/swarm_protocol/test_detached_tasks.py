"""Tasks that belong to nobody in particular."""

import asyncio
from contextvars import ContextVar

from swarm_protocol.detached_tasks import start_detached

caller = ContextVar("caller", default="nobody")


async def who_calls() -> str:
    return caller.get()


async def test_a_detached_task_knows_nothing_of_who_started_it() -> None:
    """Unlike any other one."""
    caller.set("somebody")

    assert await asyncio.create_task(who_calls()) == "somebody"
    assert await start_detached(who_calls()) == "nobody"


async def test_a_detached_task_has_a_name_and_a_result() -> None:
    """As any other one."""
    task = start_detached(who_calls(), name="question")

    assert task.get_name() == "question"
    assert await task == "nobody"
