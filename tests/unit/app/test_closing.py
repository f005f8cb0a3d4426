"""Stacks of what is closed in the end, on a list instead of a deque."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest

from app.closing import SlimAsyncExitStack, SlimExitStack


class _Log:
    """Notes what is closed, and with which error."""

    def __init__(self) -> None:
        self.closed: list[str] = []

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """A part that notes its end."""
        try:
            yield
        except ValueError as error:
            self.closed.append(f"{name} {error}")
            raise
        else:
            self.closed.append(name)

    @asynccontextmanager
    async def async_part(self, name: str) -> AsyncIterator[None]:
        """The same, asynchronous."""
        with self.part(name):
            yield


def test_parts_are_closed_once_and_in_reverse() -> None:
    """As by the stack of the standard library."""
    log, stack = _Log(), SlimExitStack()
    stack.enter_context(log.part("first"))
    stack.callback(log.closed.append, "second")

    stack.close()
    stack.close()

    assert log.closed == ["second", "first"]


async def test_parts_that_are_handed_over_are_closed_by_the_new_stack() -> None:
    """The old one has nothing left."""
    log = _Log()
    async with SlimAsyncExitStack() as old:
        await old.enter_async_context(log.async_part("first"))
        old.enter_context(log.part("second"))
        new = old.pop_all()

    assert log.closed == []
    await new.aclose()
    assert log.closed == ["second", "first"]


async def test_every_part_sees_the_error() -> None:
    """An account, e.g., notes how its generation ended."""
    log = _Log()

    async def fail() -> None:
        async with SlimAsyncExitStack() as stack:
            await stack.enter_async_context(log.async_part("first"))
            stack.enter_context(log.part("second"))
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await fail()

    assert log.closed == ["second no", "first no"]
