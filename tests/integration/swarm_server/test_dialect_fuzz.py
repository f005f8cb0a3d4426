"""Ten thousand damaged frames: typed errors, nothing lost, and nobody else disturbed."""

import asyncio
from random import Random
from typing import Final

import pytest
import torch
from hypothesis import given, settings

from swarm_protocol.dialect import (
    ONLY_LAST,
    WANTS_PUSH,
    FailedFrame,
    PushedEntry,
    PushedFrame,
    PushTarget,
    StepEntry,
    StepExtras,
    StepsFrame,
    decode_reply,
    encode_cancel,
    encode_close,
    encode_open,
    encode_pushed,
    encode_steps,
    hash_prefixes,
)
from swarm_protocol.errors import PeerRefusedError
from swarm_protocol.identifiers import PeerId
from swarm_server.errors import BatchFailedError, StepFailedError
from tests.unit.swarm_protocol.dialect.strategies import SEEDS, damage
from tests.unit.swarm_server.engine.serving.running_sums import BLOCKS
from tests.unit.swarm_server.handlers.dialect.lane_bench import (
    LaneBench,
    lane_server,
    opening,
)

_NUM_SERVERS: Final = 20
_FRAMES_PER_SERVER: Final = 500
_AT_ONCE: Final = 25

_PROMPTED: Final = StepExtras(prompts=torch.ones(1, 2, 1, 2))
_REORDERED: Final = StepExtras(hypo_ids=torch.tensor([1, 0]))
_OPENING: Final = opening(
    1,
    num_rows=2,
    prefix_hashes=tuple(hash_prefixes(range(8), 4, b"")),
    push_to=PushTarget(PeerId("nobody"), bytes(16), BLOCKS),
)
_FRAMES: Final = (
    encode_open([_OPENING]),
    encode_open([opening(2), opening(3, max_length=100)]),
    encode_steps(
        StepsFrame([StepEntry(1, 0, 0, 2, 2), StepEntry(2, 0, 0, 1, 3)], torch.ones(7, 2))
    ),
    encode_steps(StepsFrame([StepEntry(1, 1, 2, 2, 1)], torch.ones(2, 2), {0: _REORDERED})),
    encode_steps(StepsFrame([StepEntry(1, 2, 1, 2, 1)], torch.ones(2, 2), {0: _PROMPTED})),
    encode_steps(StepsFrame([StepEntry(1, 3, 2, 2, 1, WANTS_PUSH)], torch.ones(2, 2))),
    encode_steps(StepsFrame([StepEntry(2, 3, 2, 1, 3, ONLY_LAST)], torch.ones(3, 2))),
    encode_pushed(PushedFrame([PushedEntry(_OPENING.token, 4, 3, 2, 1)], torch.ones(2, 2))),
    encode_cancel([1, 2]),
    encode_close([1, 2, 3]),
)


async def abuse(server: LaneBench, random: Random) -> set[str]:
    """Send a damaged frame after some right ones; return the errors that the server tells."""
    lane = await server.lane()
    for frame in random.choices(_FRAMES, k=random.randint(0, 3)):
        await lane.stream.send(frame)
    await lane.stream.send(damage(random.choice(_FRAMES), random))
    errors = set()
    try:
        async with asyncio.timeout(5):
            await lane.stream.finish()
            while (data := await lane.stream.receive()) is not None:
                reply = decode_reply(data)
                if isinstance(reply, FailedFrame):
                    errors |= {failure.message for failure in reply.failures}
    except PeerRefusedError as error:
        errors.add(error.reason)
    return errors


@pytest.mark.timeout(120)
@settings(max_examples=_NUM_SERVERS)
@given(seed=SEEDS)
async def test_damaged_frames_stop_no_server_and_leak_nothing(seed: int) -> None:
    """Streams end by a reason that the client may be told; a neighbour's session goes on."""
    random = Random(seed)
    async with lane_server() as server:
        neighbour = await server.lane()
        await neighbour.open(opening(9))
        num_tasks = len(asyncio.all_tasks())

        for position in range(_FRAMES_PER_SERVER // _AT_ONCE):
            errors = await asyncio.gather(*(abuse(server, random) for _ in range(_AT_ONCE)))
            assert not {str(StepFailedError()), str(BatchFailedError())} & set().union(*errors)
            await neighbour.step(9, position, position, 1.0)
            assert (await neighbour.next_output())[1] == [position + 1]

        await neighbour.stream.finish()
        await server.assert_all_is_free()
        assert len(asyncio.all_tasks()) <= num_tasks
