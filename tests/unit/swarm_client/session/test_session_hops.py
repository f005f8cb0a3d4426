"""Decisions: who must be replaced, and what is undone. Sessions are only names here."""

import pytest
import torch

from swarm_client.errors import RollbackUnsupportedError
from swarm_client.routing import Hop
from swarm_client.session import HopOutput, HopSession, StepInputs
from swarm_client.session.dialling import DialledRoute
from swarm_client.session.session_hops import SessionHops
from swarm_protocol.identifiers import BlockRange
from tests.unit.swarm_client.session.remembering_swarm import RememberingSwarm


async def open_sessions(*splits: str, stuck: str | None = None) -> list[HopSession]:
    """Return sessions over these blocks; the server of `stuck` cannot roll back."""
    swarm = RememberingSwarm([])
    route = []
    for split in splits:
        blocks = BlockRange.parse(split)
        route.append(Hop(swarm.add(blocks, can_roll_back=split != stuck).peer, blocks))
    dialled: DialledRoute = await swarm.dial(tuple(route), max_length=100)
    return list(dialled.hops)


def run_step(hops: SessionHops, num_tokens: int, num_rows: int = 1) -> None:
    hops.begin_step()
    hops.take_step(StepInputs(torch.zeros(num_rows, num_tokens, 1)))
    append_to(hops, num_tokens, num_rows)
    hops.step_finished()


def append_to(hops: SessionHops, num_tokens: int, num_rows: int = 1) -> None:
    for hop in hops:
        hidden = torch.zeros(num_rows, num_tokens, 1)
        hop.step_finished(
            StepInputs(hidden), HopOutput(hidden, compute_ms=2.0), took_s=0.003, now=0
        )


async def test_only_servers_that_cannot_roll_back_are_replaced_after_a_rollback() -> None:
    """The others are told by the next step's position."""
    hops = SessionHops(await open_sessions("0:1", "1:3", "3:4", stuck="1:3"))
    run_step(hops, 5)
    hops.roll_back(2)

    assert [hop.blocks for hop in hops.outdated(1)] == [BlockRange(1, 3)]
    assert [hop.history.num_tokens for hop in hops] == [2, 2, 2]


async def test_another_number_of_rows_replaces_all_and_the_same_number_none() -> None:
    """Servers reorder rows by themselves, but have as many as at their start."""
    hops = SessionHops(await open_sessions("0:1", "1:4"))
    run_step(hops, 5, num_rows=2)
    hops.take_rows(torch.tensor([1, 0]))
    assert hops.outdated(2) == []
    assert hops.begin_replay(2).tolist() == [0, 1]
    step = hops.take_step(StepInputs(torch.zeros(2, 1, 1), hypo_ids=torch.tensor([0, 0])))
    assert step.hypo_ids is not None
    assert step.hypo_ids.tolist() == [1, 1]

    hops.take_rows(torch.tensor([0, 1, 1]))

    assert len(hops.outdated(3)) == 2
    assert hops.begin_replay(3).tolist() == [1, 0, 0]
    assert hops.num_rows == 3


async def test_a_failed_step_has_not_happened_and_leaves_every_server() -> None:
    """Also those that had taken over in it; what they held is forgotten."""
    first, second, third = await open_sessions("0:2", "2:4", "2:4")
    hops = SessionHops([first, second])
    run_step(hops, 5)
    hops.begin_step()
    hops.take_step(StepInputs(torch.zeros(1, 3, 1)))
    hops.replace(hops[2], [third])
    append_to(hops, 3)

    assert set(hops.step_failed()) == {first, second, third}
    assert [hop.session for hop in hops] == [first, second]
    assert [hop.history.num_tokens for hop in hops] == [5, 5]
    assert hops.position == 5
    assert len(hops.outdated(1)) == 2


async def test_a_hop_may_be_replaced_by_several_that_hold_nothing() -> None:
    """They stand where it stood."""
    first, second, third, fourth = await open_sessions("0:1", "1:4", "1:3", "3:4")
    hops = SessionHops([first, second])
    run_step(hops, 5)
    hops.replace(hops[1], [third, fourth])

    assert [hop.session for hop in hops] == [first, third, fourth]
    assert [hop.history.num_tokens for hop in hops] == [5, 0, 0]


async def test_the_limit_of_history_is_for_all_hops_together() -> None:
    """Over it, all forget but the session itself, from which theirs can be computed.

    When that is too much, too, only the start can be gone back to without the servers' help.
    """
    hops = SessionHops(await open_sessions("0:1", "1:4", stuck="1:4"))
    run_step(hops, 5)  # 20 bytes for each hop
    are_complete = []
    for max_bytes in (40, 39, 20, 19):
        hops.limit_history(max_bytes)
        are_complete.append((hops.num_bytes, hops.num_spills, hops.is_complete))
    assert are_complete == [(40, 0, True), (20, 1, True), (20, 1, True), (0, 1, False)]

    with pytest.raises(RollbackUnsupportedError):
        hops.roll_back(1)
    with pytest.raises(RollbackUnsupportedError):
        hops.take_rows(torch.tensor([0, 0]))
    hops.roll_back(0)
    assert hops.is_complete


async def test_times_are_summed_within_a_step_only() -> None:
    """A server that tells nothing leaves None."""
    hops = SessionHops(await open_sessions("0:4"))
    run_step(hops, 5)
    hops.begin_step()
    append_to(hops, 2)
    append_to(hops, 2)

    (timing,) = hops.timings().hops
    assert (timing.took_ms, timing.queue_ms, timing.compute_ms) == (6.0, None, 4.0)


async def test_inputs_of_a_hop_that_forgot_are_those_of_the_session_up_to_there() -> None:
    """Rows as the step orders them, if the hop has begun with it."""
    hops = SessionHops(await open_sessions("0:4"))
    first, second = torch.tensor([[[1.0], [2.0]], [[3.0], [4.0]]]), torch.tensor([[[5.0]], [[6.0]]])
    hops.begin_step()
    hops.take_step(StepInputs(first))
    hops.step_finished()
    hops.begin_step()
    hops.take_step(StepInputs(second, hypo_ids=torch.tensor([1, 1])))

    def hidden_until(num_tokens: int) -> list[list[float]] | None:
        inputs = hops.inputs_until(num_tokens, num_rows=2)
        return None if inputs is None else inputs.hidden[:, :, 0].tolist()

    assert hidden_until(0) is None
    assert hidden_until(1) == [[1], [3]]
    assert hidden_until(2) == [[1, 2], [3, 4]]
    assert hidden_until(3) == [[3, 4, 5], [3, 4, 6]]
