"""The first words of a client."""

import pytest
import torch

from swarm_protocol.dialect import STEP_FLAGS, HelloReply, HelloRequest
from swarm_protocol.errors import MalformedMessageError
from swarm_protocol.identifiers import BlockRange, PeerId
from swarm_server.errors import NotServedError
from swarm_server.handlers import ServedModel
from swarm_server.handlers.dialect import HelloHandler, LaneLimits

MODEL = ServedModel("m", BlockRange(2, 6), 64, 100, 2048, adapters=frozenset({"poet"}))
LIMITS = LaneLimits.of_model(MODEL, step_s=1.0, session_s=1.0)
HELLO = HelloHandler(MODEL, LIMITS, dtype=torch.bfloat16, page_size=16)
SOMEBODY = PeerId("somebody")


async def test_a_client_hears_what_is_served_and_within_which_bounds() -> None:
    """All that it needs to open sessions."""
    data = await HELLO.answer(HelloRequest((1,), "m").to_wire(), SOMEBODY)

    assert HelloReply.parse(data) == HelloReply(
        version=1,
        blocks=BlockRange(2, 6),
        hidden_size=64,
        dtype=torch.bfloat16,
        page_size=16,
        max_frame_tokens=2048,
        max_inflight_tokens=2**20,
        max_length=100,
        adapters=("poet",),
        step_flags=STEP_FLAGS,
    )


@pytest.mark.parametrize("request_", [HelloRequest((2, 3), "m"), HelloRequest((1,), "other")])
async def test_other_versions_and_models_are_refused(request_: HelloRequest) -> None:
    """Such a client may try the Petals dialect."""
    with pytest.raises(NotServedError):
        await HELLO.answer(request_.to_wire(), SOMEBODY)


async def test_what_is_no_hello_is_refused() -> None:
    """Any bytes."""
    with pytest.raises(MalformedMessageError):
        await HELLO.answer(b"hello", SOMEBODY)


def test_a_frame_of_the_largest_model_fits_the_transport() -> None:
    """Half of a frame is left for deep prompts, with values of four bytes."""
    model = ServedModel("m", BlockRange(0, 1), 16384, 100, max_batch_tokens=2**20)

    limits = LaneLimits.of_model(model, step_s=1.0, session_s=1.0)

    assert limits.max_frame_tokens == 512
    assert limits.max_inflight_tokens == 4096
