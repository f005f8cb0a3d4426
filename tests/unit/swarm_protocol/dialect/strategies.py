"""Frames that are right, for hypothesis."""

from random import Random

import torch
from hypothesis import strategies as st
from torch import Tensor

from swarm_protocol.dialect import (
    Failure,
    Opened,
    Opening,
    OutputEntry,
    OutputsFrame,
    PushedEntry,
    PushedFrame,
    PushTarget,
    StepEntry,
    StepExtras,
    StepsFrame,
    encode_cancel,
    encode_close,
    encode_failed,
    encode_open,
    encode_opened,
    encode_outputs,
    encode_pushed,
    encode_steps,
)
from swarm_protocol.identifiers import BlockRange, PeerId

U32 = st.integers(0, 2**32 - 1)
U16 = st.integers(0, 2**16 - 1)
TOKENS = st.binary(min_size=16, max_size=16)
BLOCKS = st.builds(
    lambda start, count: BlockRange(start, start + count),
    U16.map(lambda n: n % 900),
    st.integers(1, 100),
)
NAMES = st.text(max_size=20)

STEP = {
    "step": U32,
    "position": U32,
    "num_rows": st.integers(1, 4),
    "num_tokens": st.integers(0, 3),
    "flags": U16,
}
TIMES = {"queue_us": U32, "compute_us": U32, "batch_rows": U16}
step_entries = st.builds(StepEntry, session_id=U32, **STEP)
pushed_entries = st.builds(PushedEntry, token=TOKENS, **STEP)
output_entries = st.builds(OutputEntry, session_id=U32, **STEP, **TIMES)
openings = st.builds(
    Opening,
    session_id=U32,
    blocks=BLOCKS,
    max_length=U32,
    num_rows=st.integers(1, 2**16 - 1),
    token=TOKENS,
    tenant=NAMES,
    adapter=st.none() | st.text(min_size=1, max_size=20),
    wait_s=st.floats(0, 1000),
    prefix_hashes=st.lists(TOKENS, max_size=5).map(tuple),
    push_to=st.none() | st.builds(PushTarget, peer=NAMES.map(PeerId), token=TOKENS, blocks=BLOCKS),
)
failures = st.builds(
    Failure,
    session_id=U32,
    code=NAMES,
    message=NAMES,
    retryable=st.booleans(),
    facts=st.dictionaries(NAMES, st.booleans() | st.integers(-9, 9) | NAMES, max_size=3),
)


def make_rows(
    entries: list[StepEntry] | list[PushedEntry] | list[OutputEntry], dtype: torch.dtype
) -> Tensor:
    """Return hidden states of size 6 for some entries."""
    num_tokens = sum(entry.num_rows * entry.num_tokens for entry in entries)
    return torch.arange(num_tokens * 6).view(num_tokens, 6).to(dtype)


@st.composite
def extras_of(
    draw: st.DrawFn, entries: list[StepEntry] | list[PushedEntry]
) -> dict[int, StepExtras]:
    """Draw extras for some of the entries."""
    extras = {}
    for index in draw(st.sets(st.integers(0, len(entries) - 1), max_size=2)):
        ids = draw(
            st.lists(U16, min_size=entries[index].num_rows, max_size=entries[index].num_rows)
        )
        hypo_ids = draw(st.sampled_from([None, torch.tensor(ids)]))
        prompts = draw(st.sampled_from([None, torch.rand(2, 1, 3, 6)]))
        extras[index] = StepExtras(hypo_ids, prompts)
    return extras


DTYPES = st.sampled_from([torch.float32, torch.bfloat16, torch.float16])


@st.composite
def steps_frames(draw: st.DrawFn) -> StepsFrame:
    """Draw a STEPS frame."""
    entries = draw(st.lists(step_entries, min_size=1, max_size=5))
    return StepsFrame(entries, make_rows(entries, draw(DTYPES)), draw(extras_of(entries)))


@st.composite
def pushed_frames(draw: st.DrawFn) -> PushedFrame:
    """Draw a PUSHED frame."""
    entries = draw(st.lists(pushed_entries, min_size=1, max_size=5))
    return PushedFrame(entries, make_rows(entries, draw(DTYPES)), draw(extras_of(entries)))


@st.composite
def outputs_frames(draw: st.DrawFn) -> OutputsFrame:
    """Draw an OUTPUTS frame."""
    entries = draw(st.lists(output_entries, min_size=1, max_size=5))
    return OutputsFrame(entries, make_rows(entries, draw(DTYPES)))


opening_lists = st.lists(openings, min_size=1, max_size=3).map(tuple)
opened_lists = st.lists(st.builds(Opened, U32, U32), min_size=1, max_size=3).map(tuple)
failure_lists = st.lists(failures, min_size=1, max_size=3).map(tuple)
id_lists = st.lists(U32, min_size=1, max_size=9).map(tuple)

requests = st.one_of(
    opening_lists.map(encode_open),
    steps_frames().map(encode_steps),
    pushed_frames().map(encode_pushed),
    id_lists.map(encode_close),
    id_lists.map(encode_cancel),
)
replies = st.one_of(
    opened_lists.map(encode_opened),
    failure_lists.map(encode_failed),
    outputs_frames().map(encode_outputs),
)


def damage(frame: bytes, random: Random) -> bytes:
    """Return a frame some of whose bytes were changed, cut off or put in.

    Mostly its header tells the new length, so that the damage reaches the decoder of the body.
    """
    data = bytearray(frame)
    for _ in range(random.randint(1, 3)):
        start = random.randint(0, len(data))
        end = start + random.choice([0, 1, 1, 4, 1000])
        data[start:end] = random.choice([b"\0", b"\x01", b"\xff", random.randbytes(4)])
    if random.random() < 0.8 and len(data) >= 8:
        data[0:1] = frame[0:1]
        data[4:8] = (len(data) - 8).to_bytes(4, "little")
    return bytes(data)


SEEDS = st.integers(0, 2**32)
