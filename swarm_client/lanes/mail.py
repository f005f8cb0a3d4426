"""From what leaves on a lane, and what comes back as an error, to its form on the wire. Pure."""

from collections.abc import Iterator
from typing import Final

import torch

from swarm_client.errors import PeerFullError
from swarm_client.lanes.outbox import LaneStep, Mail
from swarm_protocol.dialect import (
    WANTS_PUSH,
    Failure,
    StepEntry,
    StepExtras,
    StepsFrame,
    encode_cancel,
    encode_close,
    encode_open,
    encode_steps,
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
    if mail.openings:
        yield encode_open(mail.openings)
    if mail.steps:
        yield encode_steps(_steps_frame(mail.steps))


def _steps_frame(steps: tuple[LaneStep, ...]) -> StepsFrame:
    entries = [
        StepEntry(
            step.session_id,
            step.number,
            step.position,
            step.num_rows,
            step.num_tokens,
            WANTS_PUSH if step.wants_push else 0,
        )
        for step in steps
    ]
    hidden = steps[0].hidden if len(steps) == 1 else torch.cat([step.hidden for step in steps])
    extras = {
        index: StepExtras(step.hypo_ids, step.prompts)
        for index, step in enumerate(steps)
        if step.hypo_ids is not None or step.prompts is not None
    }
    return StepsFrame(entries, hidden, extras)


def session_failure(peer: PeerId, failure: Failure) -> PeerRefusedError:
    """Return the error for whoever uses the session that a server has ended."""
    is_full = failure.code in _FULL_CODES
    return (PeerFullError if is_full else PeerRefusedError)(peer, failure.message or failure.code)
