"""How much streams may ask of the server."""

from dataclasses import dataclass
from typing import Final

from swarm_protocol.node import MAX_FRAME_BYTES
from swarm_server.handlers.opening import ServedModel

_WIDEST_VALUE_BYTES: Final = 4  # hidden states may come as float32
_MAX_INFLIGHT_BYTES: Final = 256 * 1024 * 1024
_STREAMS_AT_ONCE: Final = 8
"""So many may have all of that in work together."""


@dataclass(frozen=True, slots=True)
class LaneLimits:
    """Bounds of one stream, and of all together.

    Attributes:
        max_frame_tokens: over all rows of one frame; one with more ends the stream.
        max_inflight_tokens: of steps without a reply; beyond it nothing more is read.
        step_s: how long a session may wait for its next step, and a reply for its reader; seconds.
        session_s: how long a session may last; seconds.
        max_total_tokens: of steps without a reply, of all streams; beyond it each has a share.
    """

    max_frame_tokens: int
    max_inflight_tokens: int
    step_s: float
    session_s: float
    max_total_tokens: int

    @classmethod
    def of_model(cls, model: ServedModel, *, step_s: float, session_s: float) -> "LaneLimits":
        """Return the limits for a model: half of a frame is left for deep prompts."""
        token_bytes = model.hidden_size * _WIDEST_VALUE_BYTES
        max_frame_tokens = max(1, min(model.max_batch_tokens, MAX_FRAME_BYTES // 2 // token_bytes))
        max_inflight_tokens = max(max_frame_tokens, _MAX_INFLIGHT_BYTES // token_bytes)
        max_total_tokens = _STREAMS_AT_ONCE * max_inflight_tokens
        return cls(max_frame_tokens, max_inflight_tokens, step_s, session_s, max_total_tokens)
