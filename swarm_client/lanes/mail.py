"""From what leaves on a lane, and what comes back as an error, to its form on the wire. Pure."""

from collections.abc import Iterator, Sequence
from typing import Final

import torch
from torch import Tensor

from swarm_client.errors import PeerFullError
from swarm_client.lanes.outbox import LaneStep, Mail
from swarm_protocol.dialect import (
    Failure,
    StepsFrame,
    encode_cancel,
    encode_close,
    encode_open,
    encode_steps,
    split_openings,
)
from swarm_protocol.errors import PeerRefusedError
from swarm_protocol.identifiers import PeerId

_FULL_CODES: Final = ("kv_memory_exhausted", "pages_exhausted", "too_many_sessions")


def encode_mail(mail: Mail) -> Iterator[bytes]:
    """Yield the frames of a mail, in the order in which they must be sent."""
    if mail.cancelled:
        yield encode_cancel(mail.cancelled)
    if mail.closed:
        yield encode_close(mail.closed)
    for openings in split_openings(mail.openings):
        yield encode_open(openings)
    if mail.steps:
        yield encode_steps(_steps_frame(mail.steps))


def _steps_frame(steps: Sequence[LaneStep]) -> StepsFrame:
    entries, parts, extras = zip(*steps, strict=True)
    num_tokens = {entry.num_tokens for entry in entries}
    extras_by_index = {index: one for index, one in enumerate(extras) if one is not None}
    return StepsFrame(entries, _join_rows(parts, are_equal=len(num_tokens) == 1), extras_by_index)


def _join_rows(parts: tuple[Tensor, ...], *, are_equal: bool) -> Tensor:
    """Return `[num_tokens, hidden_size]` of all `[num_rows, num_tokens, hidden_size]`."""
    if len(parts) == 1:
        return parts[0].flatten(0, 1)
    if are_equal:  # in tokens of a row, as when all decode: one view
        return torch.cat(parts).flatten(0, 1)
    return torch.cat([part.flatten(0, 1) for part in parts])


def session_failure(peer: PeerId, failure: Failure) -> PeerRefusedError:
    """Return the error for whoever uses the session that a server has ended."""
    is_full = failure.code in _FULL_CODES
    return (PeerFullError if is_full else PeerRefusedError)(peer, failure.message or failure.code)
