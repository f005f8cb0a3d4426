"""What a session may do next. Pure: no tensors, no clock, no sockets."""

from collections import deque

from swarm_protocol.metadata import InferenceMetadata
from swarm_server.errors import (
    InvalidPositionError,
    InvalidStepError,
    MaxLengthExceededError,
    NotServedError,
)

_REMEMBERED_STEPS = 1024


class SessionRules:
    """Keeps to what the first message fixed: chain, batch size, length.

    A step id that repeats one of the last thousand is a duplicate; repeats come close together.
    """

    def __init__(self, uid: str, *, batch_size: int, max_length: int) -> None:
        self.batch_size = batch_size
        self.max_length = max_length
        self._uid = uid
        self._recent_steps: deque[str] = deque(maxlen=_REMEMBERED_STEPS)

    def has_seen(self, step_id: str) -> bool:
        """Tell whether this step has been seen before."""
        return step_id in self._recent_steps

    def is_repeated(self, step_id: str | None) -> bool:
        """Tell whether this step has been seen before, and remember it."""
        if step_id is None:
            return False
        if self.has_seen(step_id):
            return True
        self._recent_steps.append(step_id)
        return False

    def check_uid(self, uid: str) -> None:
        """Refuse a message for other blocks; later messages may name none.

        Raises:
            NotServedError: the uid differs from the first message's.
        """
        if uid not in ("", self._uid):
            raise NotServedError.blocks(uid)

    def starting_position(self, metadata: InferenceMetadata, position: int) -> int:
        """Return where the step begins: where the session is, or where it is rolled back to.

        Raises:
            InvalidPositionError: the session has not been there.
        """
        wanted = metadata.start_from_position
        if wanted is None:
            return position
        if not 0 <= wanted <= position:
            raise InvalidPositionError(wanted, position)
        return wanted

    def check_step(self, batch_size: int, num_tokens: int, position: int) -> None:
        """Refuse a step that does not fit what was reserved.

        Raises:
            InvalidStepError: another number of rows.
            MaxLengthExceededError: too many tokens.
        """
        if batch_size != self.batch_size:
            raise InvalidStepError(
                f"hidden states must have {self.batch_size} rows as in the first step, "
                f"got {batch_size}"
            )
        if position + num_tokens > self.max_length:
            raise MaxLengthExceededError(position, num_tokens, self.max_length)
