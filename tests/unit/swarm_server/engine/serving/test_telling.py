"""Who hears first that steps have ended, and what comes after that."""

import asyncio

import torch

from swarm_protocol.identifiers import BlockRange
from swarm_protocol.rows import Rows
from swarm_server.engine.serving.inputs import InputChunk
from swarm_server.engine.serving.requests import StepListener
from swarm_server.engine.serving.telling import Telling
from swarm_server.engine.serving.work import Work

ROWS = Rows.of(torch.zeros(1, 1, 2))


def finished(number: int, on_done: StepListener) -> Work:
    """Return a step that has its outputs."""
    work = Work(
        number, number, "one", BlockRange(0, 1), 1, 1, False, InputChunk(0, ROWS), on_done, 0.0
    )
    work.outputs = ROWS
    return work


async def test_what_comes_afterwards_comes_once_and_when_all_have_heard() -> None:
    """In the order in which it was asked for first, and with the call itself."""
    telling, order = Telling(), list[str]()

    def hear(_outcome: object) -> None:
        order.append("heard")
        telling.call_afterwards(first)
        telling.call_afterwards(second)

    def first() -> None:
        order.append("first")

    def second() -> None:
        order.append("second")

    telling.tell([finished(number, hear) for number in range(3)], 1.0, 3)

    assert order == ["heard", "heard", "heard", "first", "second"]


async def test_nobody_misses_an_end_for_the_failure_of_another() -> None:
    """Neither a listener nor what comes afterwards."""
    telling, heard = Telling(), list[str]()

    def fail(_outcome: object) -> None:
        telling.call_afterwards(fail_later)
        raise ValueError

    def fail_later() -> None:
        raise ValueError

    def hear(_outcome: object) -> None:
        heard.append("outputs")
        telling.call_afterwards(lambda: heard.append("afterwards"))

    telling.tell([finished(0, fail), finished(1, hear)], 1.0, 2)

    assert heard == ["outputs", "afterwards"]


async def test_while_nobody_is_told_afterwards_is_the_next_turn_of_the_loop() -> None:
    """As for steps without tokens, which are no part of a batch."""
    telling, called = Telling(), list[str]()

    telling.call_afterwards(lambda: called.append("afterwards"))

    assert not called
    await asyncio.sleep(0)
    assert called == ["afterwards"]
