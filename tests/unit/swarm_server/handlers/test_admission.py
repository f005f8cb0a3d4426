"""Admission of sessions."""

import asyncio
from dataclasses import replace

import pytest
import torch

from swarm_protocol.identifiers import BlockRange
from swarm_protocol.metadata import InferenceMetadata
from swarm_server.errors import (
    KVMemoryError,
    ServerDrainingError,
    SessionNotUniqueError,
    TooManySessionsError,
)
from swarm_server.handlers.admission import Admission
from swarm_server.handlers.opening import Opening, ServedModel, read_opening
from swarm_server.handlers.step_request import StepRequest
from swarm_server.kv import KVBudget

SERVED = ServedModel("m", BlockRange(0, 1), hidden_size=4, max_length=100, max_batch_tokens=50)


def opening(session_id: str | None = None, num_tokens: int = 10, wait_s: float = 0) -> Opening:
    metadata = InferenceMetadata(
        session_id=session_id, max_length=num_tokens, alloc_timeout_s=wait_s
    )
    return read_opening(StepRequest("m.0", metadata, (torch.zeros(1, 1, 4),)), SERVED)


def make_admission(max_sessions: int = 3) -> tuple[Admission, KVBudget]:
    budget = KVBudget(num_slots=25, slot_bytes=1)
    return Admission(budget, max_sessions=max_sessions), budget


async def test_release_gives_everything_back() -> None:
    """Memory, place and session id."""
    admission, budget = make_admission()
    release = await admission.admit(opening("a"))

    release()

    assert (admission.num_sessions, budget.slots_left) == (0, 25)
    await admission.wait_idle()
    await admission.admit(opening("a"))


async def test_a_session_id_is_unique_while_it_lives() -> None:
    """Sessions without an id do not collide."""
    admission, _ = make_admission()
    await admission.admit(opening("a", 1))
    await admission.admit(opening(None, 1))

    with pytest.raises(SessionNotUniqueError, match="session id a is not unique"):
        await admission.admit(opening("a", 1))
    await admission.admit(opening(None, 1))


async def test_there_is_a_maximum_of_sessions() -> None:
    """However small they are."""
    admission, _ = make_admission(max_sessions=1)
    await admission.admit(opening(num_tokens=0))

    with pytest.raises(TooManySessionsError, match="maximum of 1 sessions"):
        await admission.admit(opening(num_tokens=0))


async def test_who_gets_no_memory_leaves_nothing_behind() -> None:
    """Refused at once, after waiting, or having left while waiting."""
    admission, budget = make_admission()
    release = await admission.admit(opening(num_tokens=20))

    with pytest.raises(KVMemoryError):
        await admission.admit(opening("b"))
    with pytest.raises(KVMemoryError):
        await admission.admit(opening("b", wait_s=0.01))
    waiting = asyncio.ensure_future(admission.admit(opening("b", wait_s=10)))
    await asyncio.sleep(0)
    assert admission.num_sessions == 2
    waiting.cancel()
    await asyncio.wait({waiting})
    release()

    assert (admission.num_sessions, budget.slots_left) == (0, 25)
    await admission.admit(replace(opening("b"), wait_s=0))


async def test_a_draining_server_takes_nothing_new() -> None:
    """Running sessions stay."""
    admission, _ = make_admission()
    await admission.admit(opening())
    admission.start_draining()

    with pytest.raises(ServerDrainingError):
        await admission.admit(opening())
    assert admission.num_sessions == 1


async def test_a_session_that_cannot_begin_leaves_nothing_behind() -> None:
    """In either dialect; the error is told as it is."""
    admission, budget = make_admission()

    def fail() -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        await admission.open(opening("a"), fail)

    assert (admission.num_sessions, budget.slots_left) == (0, 25)
    await admission.open(opening("a"), lambda: None)
