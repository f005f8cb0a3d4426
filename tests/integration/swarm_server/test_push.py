"""Steps that travel from server to server (PETALS_PROTOCOL §3.7)."""

import asyncio
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from swarm_protocol.argument_packing import structure_of
from swarm_protocol.errors import PeerRefusedError
from swarm_protocol.identifiers import BlockRange, PeerId
from swarm_protocol.messages import ExpertRequest, parse_message
from swarm_protocol.metadata import InferenceMetadata, NextServer
from swarm_protocol.methods import RPC_PUSH
from swarm_protocol.tensor_codec import absent_hypo_ids, absent_prompts, decode_tensor
from tests.integration.swarm_server.raw_session import RawSession, hidden_states, make_frame
from tests.integration.swarm_server.tiny_swarm import Swarm


async def opened(swarm: Swarm, *, prefix: Tensor, index: int = 1) -> RawSession:
    """Return a session that has run one step."""
    session = await RawSession.start(swarm.caller, swarm.servers[index])
    await session.step(prefix)
    return session


async def push(
    swarm: Swarm,
    session: RawSession,
    hidden: Tensor,
    *,
    step_id: str | None = "pushed",
    uid: str | None = None,
    hypo_ids: Tensor | None = None,
    session_id: str | None = None,
    start_from_position: int | None = None,
) -> None:
    """Push a step to the second server, as the first would."""
    metadata = InferenceMetadata(
        session_id=session_id or session.opening.session_id,
        step_id=step_id,
        args_structure=structure_of(3),
        start_from_position=start_from_position,
        is_pushed=True,
    )
    tensors = [hidden, absent_prompts(), absent_hypo_ids() if hypo_ids is None else hypo_ids]
    frame = make_frame(session.uid if uid is None else uid, tensors, metadata)
    await swarm.caller.call(swarm.servers[1].peer_id, RPC_PUSH, frame)


async def expected_reply(swarm: Swarm, prefix: Tensor, *following: Tensor) -> Tensor:
    """Return the last reply of an undisturbed session."""
    session = await opened(swarm, prefix=prefix)
    replies = [await session.step(hidden) for hidden in following]
    await session.end()
    return replies[-1]


@pytest.mark.parametrize("order", ["before", "after", "instead"])
async def test_a_pushed_step_is_answered_once(swarm: Swarm, order: str) -> None:
    """Before, after, or instead of the caller's copy; the step after it finds all in place."""
    prefix, token, later = (hidden_states(2, n, seed=n) for n in (3, 1, 2))
    session = await opened(swarm, prefix=prefix)
    if order == "after":
        await session.send(token, step_id="pushed")
        reply = await session.receive()
        await push(swarm, session, token)
    else:
        await push(swarm, session, token)
        reply = await session.receive()
    if order == "before":
        await session.send(token, step_id="pushed")

    last = await session.step(later)

    assert torch.equal(reply, await expected_reply(swarm, prefix, token))
    assert torch.equal(last, await expected_reply(swarm, prefix, token, later))
    await session.end()
    swarm.assert_memory_is_back()


async def test_copies_at_once_are_answered_once(swarm: Swarm) -> None:
    """The push and the caller's copy race; twenty steps get twenty replies."""
    prefix = hidden_states(1, 2)
    tokens = [hidden_states(1, 1, seed=index) for index in range(20)]
    session = await opened(swarm, prefix=prefix)
    replies = []
    for index, token in enumerate(tokens):
        await asyncio.gather(
            push(swarm, session, token, step_id=f"step {index}"),
            session.send(token, step_id=f"step {index}"),
        )
        replies.append(await session.receive())

    assert torch.equal(replies[-1], await expected_reply(swarm, prefix, *tokens))
    await session.end()


async def test_a_pushed_rollback_rolls_back(swarm: Swarm) -> None:
    """Its start_from_position counts as the caller's would."""
    prefix, token = hidden_states(1, 3), hidden_states(1, 1, seed=1)
    session = await opened(swarm, prefix=prefix)

    await push(swarm, session, token, start_from_position=1)

    reply, expected = await session.receive(), await expected_reply(swarm, prefix[:, :1], token)
    torch.testing.assert_close(reply, expected, atol=1e-4, rtol=0)  # one sum over 1 or 3 tokens


async def test_a_caller_whose_copy_differs_loses_the_session(swarm: Swarm) -> None:
    """One of the two is forged, and what was computed can no longer be trusted."""
    session = await opened(swarm, prefix=hidden_states(1, 3))
    await push(swarm, session, hidden_states(1, 1, seed=1))
    await session.receive()

    await session.send(hidden_states(1, 1, seed=2), step_id="pushed")

    with pytest.raises(PeerRefusedError, match="differs from the caller's"):
        await session.receive()
    swarm.assert_memory_is_back()


async def test_a_copy_may_be_rounded(swarm: Swarm) -> None:
    """The caller got the first server's reply in its own, coarser dtype and sends that."""
    token = hidden_states(1, 1, seed=1)
    session = await opened(swarm, prefix=hidden_states(1, 3))
    await push(swarm, session, token)
    await session.receive()

    await session.send(token.bfloat16(), step_id="pushed")

    assert (await session.step(token)).shape == token.shape


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ({"uid": "tiny.2"}, "does not serve"),
        ({"uid": ""}, "names its blocks"),
        ({"step_id": None}, "has a step_id"),
        ({"hidden": torch.zeros(2, 1, 64)}, "must have 1 rows"),
        ({"hidden": torch.zeros(1, 1, 32)}, "must have shape"),
        ({"hidden": torch.zeros(1, 1, 64, dtype=torch.int64)}, "floating-point"),
        ({"hidden": torch.zeros(1, 40, 64)}, "Maximum length exceeded"),
        ({"hypo_ids": torch.tensor([1])}, "hypo ids"),
        ({"start_from_position": 9}, "start_from_position"),
    ],
)
async def test_a_push_that_fails_a_check_leaves_the_session_alone(
    swarm: Swarm, fault: dict[str, object], text: str
) -> None:
    """The pusher is told; the caller's own copy of that very step is computed."""
    prefix, token = hidden_states(1, 3), hidden_states(1, 1, seed=1)
    session = await opened(swarm, prefix=prefix)
    arguments: dict[str, object] = {"hidden": token} | fault

    with pytest.raises(PeerRefusedError, match=text):
        await push(swarm, session, **arguments)  # type: ignore[arg-type]
    await session.send(token, step_id="pushed")

    assert torch.equal(await session.receive(), await expected_reply(swarm, prefix, token))


async def test_a_push_to_an_unknown_session_is_ignored(swarm: Swarm) -> None:
    """It may have ended in the meantime."""
    session = await opened(swarm, prefix=hidden_states(1, 3))

    await push(swarm, session, hidden_states(1, 1), session_id="another")


@pytest.mark.parametrize("data", [b"", b"\xff\xff"])
async def test_a_push_that_is_none_is_refused(swarm: Swarm, data: bytes) -> None:
    """No tensors, or other bytes."""
    with pytest.raises(PeerRefusedError, match="MalformedMessageError"):
        await swarm.caller.call(swarm.servers[0].peer_id, RPC_PUSH, data)


class Pushes:
    """Somebody who is pushed to, and keeps what comes."""

    def __init__(self) -> None:
        self.received: asyncio.Queue[ExpertRequest] = asyncio.Queue()

    async def take(self, data: bytes, _caller: PeerId) -> bytes:
        self.received.put_nowait(parse_message(ExpertRequest, data))
        return b""


async def pushing_session(swarm: Swarm, batch: int = 1) -> tuple[Pushes, RawSession]:
    """Return a session on the first server that names us as the next."""
    pushes = Pushes()
    await swarm.caller.serve_unary(RPC_PUSH, pushes.take)
    session = await RawSession.start(swarm.caller, swarm.servers[0])
    await session.step(hidden_states(batch, 2))
    following = NextServer(swarm.caller.peer_id, "next", BlockRange(2, 3))
    last = NextServer(PeerId("last"), "far", BlockRange(3, 4))
    session.opening = replace(
        InferenceMetadata(session_id=session.opening.session_id), next_servers=(following, last)
    )
    session.is_open = False  # so that the next step carries the route
    return pushes, session


async def test_outputs_are_pushed_with_the_current_order_of_rows(swarm: Swarm) -> None:
    """As the next server's blocks and session, with the rest of the route, marked as pushed."""
    pushes, session = await pushing_session(swarm, batch=2)

    order = torch.tensor([1, 0])
    reply = await session.step(hidden_states(2, 1), hypo_ids=order, step_id="step")

    pushed = await pushes.received.get()
    metadata = InferenceMetadata.parse(pushed.metadata)
    outputs, _, hypo_ids = (decode_tensor(tensor) for tensor in pushed.tensors)
    assert pushed.uid == f"{swarm.servers[0].dht_prefix}.2"
    assert (metadata.session_id, metadata.step_id, metadata.is_pushed) == ("next", "step", True)
    assert metadata.next_servers == (NextServer(PeerId("last"), "far", BlockRange(3, 4)),)
    assert torch.equal(outputs, reply)
    assert torch.equal(hypo_ids, order)


async def test_a_step_with_deep_prompts_is_not_pushed(swarm: Swarm) -> None:
    """Those of the next server's blocks only the caller has."""
    pushes, session = await pushing_session(swarm)
    await session.step(hidden_states(1, 1), prompts=torch.zeros(2, 1, 1, 64), step_id="deep")

    session.is_open = False
    await session.step(hidden_states(1, 1), step_id="plain")

    pushed = await pushes.received.get()
    assert InferenceMetadata.parse(pushed.metadata).step_id == "plain"
    assert pushes.received.empty()


async def test_a_chain_that_pushes_answers_like_one_that_does_not(swarm: Swarm) -> None:
    """The first server pushes to the second; the caller reads there, then sends its own copy."""
    prefix, token = hidden_states(1, 3), hidden_states(1, 1, seed=1)
    first, second = await opened(swarm, prefix=prefix, index=0), await opened(swarm, prefix=prefix)
    second_id = second.opening.session_id
    assert second_id is not None
    following = NextServer(swarm.servers[1].peer_id, second_id, BlockRange(2, 4))
    first.opening = replace(
        InferenceMetadata(session_id=first.opening.session_id), next_servers=(following,)
    )
    first.is_open = False

    middle = await first.step(token, step_id="step")
    reply = await second.receive()
    await second.send(middle, step_id="step")

    assert torch.equal(reply, await expected_reply(swarm, prefix, middle))
    assert (await second.step(middle)).shape == middle.shape
