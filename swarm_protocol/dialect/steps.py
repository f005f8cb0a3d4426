"""Frames with hidden states: STEPS from a client, PUSHED from another server, OUTPUTS in reply.

Source: docs/reference/protocol.md.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import starmap
from struct import Struct
from types import MappingProxyType
from typing import Final, NamedTuple, TypeVar

from torch import Tensor

from swarm_protocol.dialect.frame import Frame, FrameKind, build_frame
from swarm_protocol.dialect.rows import RowsEntry, StepExtras, decode_rows, encode_rows
from swarm_protocol.errors import MalformedMessageError

WANTS_PUSH: Final = 1
"""Flag of a step: its outputs go on to the next server of the session as well."""

ONLY_LAST: Final = 2
"""Flag of a step: behind the last server, nobody wants outputs but those of each row's last token.

It travels with pushes, and counts where the session has no next server. Flag of outputs: these are
such, and position and tokens are those of that one token.
"""

STEP_FLAGS: Final = WANTS_PUSH | ONLY_LAST
"""All flags of steps that there are."""

IS_COPY: Final = 1
"""Flag of outputs: they have gone on to the next server as well."""

_STEP: Final = Struct("<IIIHIH4x")
_PUSHED: Final = Struct("<16sIIHIH")
_OUTPUT: Final = Struct("<IIIHIIIHH2x")

_NO_EXTRAS: Final[Mapping[int, StepExtras]] = MappingProxyType({})


class StepEntry(NamedTuple):
    """One step of one session. A tuple, because a frame has many and each has to be cheap.

    Attributes:
        session_id: as the client numbers its sessions on this stream.
        step: its number within the session, larger than those before.
        position: of the first token; below the end of the KV cache, tokens from there on are
            forgotten first.
        num_rows, num_tokens: of the batch, and of each row.
        flags: some of `STEP_FLAGS`; others are ignored.
    """

    session_id: int
    step: int
    position: int
    num_rows: int
    num_tokens: int
    flags: int = 0


class PushedEntry(NamedTuple):
    """A step that the server before sends; `token` names the session, the rest is as in a step."""

    token: bytes
    step: int
    position: int
    num_rows: int
    num_tokens: int
    flags: int = 0


class OutputEntry(NamedTuple):
    """The outputs of one step, and how they came about.

    Attributes:
        session_id, step, num_rows: as in the step.
        position, num_tokens: as in the step, or of its last token.
        queue_us, compute_us: how long it waited, and how long the batch took; microseconds.
        batch_rows: rows of all sessions in that batch.
        flags: `IS_COPY`, `ONLY_LAST`.
    """

    session_id: int
    step: int
    position: int
    num_rows: int
    num_tokens: int
    queue_us: int = 0
    compute_us: int = 0
    batch_rows: int = 0
    flags: int = 0


class StepsFrame(NamedTuple):
    """Steps of a client. `hidden`: `[num_tokens, hidden_size]` of all entries, in their order."""

    entries: Sequence[StepEntry]
    hidden: Tensor
    extras: Mapping[int, StepExtras] = _NO_EXTRAS


class PushedFrame(NamedTuple):
    """Steps of sessions of others, from the server before in their route."""

    entries: Sequence[PushedEntry]
    hidden: Tensor
    extras: Mapping[int, StepExtras] = _NO_EXTRAS


class OutputsFrame(NamedTuple):
    """Outputs of steps, in no particular order."""

    entries: Sequence[OutputEntry]
    hidden: Tensor


def encode_steps(frame: StepsFrame) -> bytes:
    """Return a STEPS frame."""
    return _encode(FrameKind.STEPS, _STEP, frame.entries, frame.hidden, frame.extras)


def encode_pushed(frame: PushedFrame) -> bytes:
    """Return a PUSHED frame."""
    return _encode(FrameKind.PUSHED, _PUSHED, frame.entries, frame.hidden, frame.extras)


def encode_outputs(frame: OutputsFrame) -> bytes:
    """Return an OUTPUTS frame."""
    return _encode(FrameKind.OUTPUTS, _OUTPUT, frame.entries, frame.hidden, _NO_EXTRAS)


def decode_steps(frame: Frame) -> StepsFrame:
    """Return the steps of a STEPS frame; its tensors own their memory.

    Raises:
        MalformedMessageError: lengths do not agree, a step without rows, an unknown dtype, or
            extras that do not fit.
    """
    entries, rest = _split(frame, _STEP, StepEntry._make)
    return StepsFrame(entries, *decode_rows(rest, entries))


def decode_pushed(frame: Frame) -> PushedFrame:
    """Return the steps of a PUSHED frame. Raises as `decode_steps` does."""
    entries, rest = _split(frame, _PUSHED, PushedEntry._make)
    return PushedFrame(entries, *decode_rows(rest, entries))


def decode_outputs(frame: Frame) -> OutputsFrame:
    """Return the outputs of an OUTPUTS frame. Raises as `decode_steps` does."""
    entries, rest = _split(frame, _OUTPUT, OutputEntry._make)
    hidden, extras = decode_rows(rest, entries)
    if extras:
        raise MalformedMessageError("outputs have no extras")
    return OutputsFrame(entries, hidden)


Entry = TypeVar("Entry", bound=RowsEntry)


def _encode(
    kind: FrameKind,
    layout: Struct,
    entries: Sequence[tuple[object, ...]],
    hidden: Tensor,
    extras: Mapping[int, StepExtras],
) -> bytes:
    packed = b"".join(starmap(layout.pack, entries))
    return build_frame(kind, len(entries), [packed, *encode_rows(hidden, extras)])


def _split(
    frame: Frame, layout: Struct, make: Callable[[Iterable[object]], Entry]
) -> tuple[list[Entry], memoryview]:
    end = frame.num_entries * layout.size
    if len(frame.body) < end:
        raise MalformedMessageError(f"expected {frame.num_entries} entries of {layout.size} bytes")
    entries = list(map(make, layout.iter_unpack(frame.body[:end])))
    if 0 in [entry.num_rows for entry in entries]:
        raise MalformedMessageError("a step has at least one row")
    return entries, frame.body[end:]
