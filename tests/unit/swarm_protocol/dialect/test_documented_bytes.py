"""The examples of docs/reference/protocol.md, byte for byte."""

import re
from pathlib import Path

import pytest
import torch

from swarm_protocol.dialect import (
    IS_COPY,
    ONLY_LAST,
    WANTS_PUSH,
    OutputEntry,
    OutputsFrame,
    StepEntry,
    StepExtras,
    StepsFrame,
    encode_close,
    encode_outputs,
    encode_steps,
)

PAGE = Path(__file__).parents[4] / "docs/reference/protocol.md"

STEPS = StepsFrame(
    [StepEntry(7, 4, 100, 1, 1, WANTS_PUSH), StepEntry(9, 0, 0, 2, 1)],
    torch.tensor([[1.0, -1.0], [0.0, 0.5], [2.0, 0.0]], dtype=torch.bfloat16),
    {1: StepExtras(hypo_ids=torch.tensor([1, 0]))},
)
OUTPUTS = OutputsFrame(
    [OutputEntry(7, 4, 100, 1, 1, queue_us=250, compute_us=3100, batch_rows=3, flags=IS_COPY)],
    torch.tensor([[1.0, -1.0]], dtype=torch.bfloat16),
)
PROMPT = StepEntry(9, 1, position=1, num_rows=2, num_tokens=600, flags=ONLY_LAST)
LAST = OutputsFrame(
    [OutputEntry(9, 1, 600, 2, 1, queue_us=250, compute_us=3100, batch_rows=2, flags=ONLY_LAST)],
    torch.tensor([[1.0, -1.0], [0.0, 0.5]], dtype=torch.bfloat16),
)


@pytest.mark.parametrize(
    ("name", "frame"),
    [
        ("STEPS", encode_steps(STEPS)),
        ("OUTPUTS", encode_outputs(OUTPUTS)),
        ("STEPS ENTRY", encode_steps(StepsFrame([PROMPT], torch.zeros(1200, 2)))[8:32]),
        ("OUTPUTS OF THE LAST TOKEN", encode_outputs(LAST)),
        ("CLOSE", encode_close([7, 9])),
    ],
)
def test_the_documented_frames_are_what_we_send(name: str, frame: bytes) -> None:
    """The page is what other implementations are written from."""
    example = re.search(rf"^```\n{name}\n([0-9a-f\s]+)```", PAGE.read_text(), re.MULTILINE)

    assert example is not None
    assert bytes.fromhex(example[1]) == frame
