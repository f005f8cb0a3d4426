"""What peers sent and the server does not take."""

from collections.abc import Sequence

import torch

from swarm_protocol.errors import SwarmError


class RequestRefusedError(SwarmError):
    """What a peer sent fails a check."""

    code = "request_refused"


class NotServedError(RequestRefusedError):
    """The peer names blocks or an adapter that this server does not hold."""

    code = "not_served"

    @classmethod
    def blocks(cls, uid: str) -> "NotServedError":
        """Return the error for a uid or chain of uids."""
        return cls(f"Remote peer does not serve {uid:.200}")

    @classmethod
    def adapter(cls, name: str) -> "NotServedError":
        """Return the error for an adapter's name."""
        return cls(f"adapter {name} not found")


class InvalidStepError(RequestRefusedError):
    """A tensor of a step does not fit the session."""

    code = "invalid_step"

    @classmethod
    def shape(cls, name: str, expected: str, got: Sequence[int]) -> "InvalidStepError":
        """Return the error for a tensor of a wrong shape."""
        return cls(f"{name} must have shape {expected}, got {list(got)}")

    @classmethod
    def dtype(cls, name: str, expected: str, got: torch.dtype) -> "InvalidStepError":
        """Return the error for a tensor of a wrong dtype."""
        return cls(f"{name} must be {expected}, got {got}")


class StepTooLargeError(RequestRefusedError):
    """The step has more tokens than the server computes at once."""

    code = "step_too_large"

    def __init__(self, num_tokens: int, max_batch_tokens: int) -> None:
        super().__init__(
            f"Task size greater than max_batch_size ({max_batch_tokens}), it can't be processed: "
            f"the step has {num_tokens} tokens"
        )
        self.num_tokens = num_tokens
        self.max_batch_tokens = max_batch_tokens


class MaxLengthExceededError(RequestRefusedError):
    """The step does not fit into the length reserved for the session."""

    code = "max_length_exceeded"

    def __init__(self, position: int, num_tokens: int, max_length: int) -> None:
        super().__init__(
            f"Maximum length exceeded: prefix {position} + current {num_tokens} "
            f"exceeds pre-allocated maximum {max_length}"
        )
        self.position = position
        self.num_tokens = num_tokens
        self.max_length = max_length


class InvalidPositionError(RequestRefusedError):
    """A rollback to a position the session never had."""

    code = "invalid_position"

    def __init__(self, wanted: int, position: int) -> None:
        super().__init__(f"start_from_position must be in 0..{position}, got {wanted}")
        self.wanted = wanted
        self.position = position


class SessionNotUniqueError(RequestRefusedError):
    """The session id is in use."""

    code = "session_not_unique"

    def __init__(self, session_id: str) -> None:
        super().__init__(f"session id {session_id} is not unique")
        self.session_id = session_id


class CopiesDisagreeError(RequestRefusedError):
    """A pushed step and the caller's own copy of it are not the same; one of them is forged."""

    code = "copies_disagree"

    def __init__(self, step_id: str) -> None:
        super().__init__(f"step {step_id:.60}: the pushed copy differs from the caller's")
        self.step_id = step_id


class NotFiniteError(RequestRefusedError):
    """A step has given infinity or not-a-number; nothing of it is kept."""

    code = "not_finite"

    def __init__(self) -> None:
        super().__init__("the hidden states after this step are not finite")


class StepUnfinishedError(RequestRefusedError):
    """A session makes one step at a time."""

    code = "step_unfinished"

    def __init__(self) -> None:
        super().__init__("the session has a step that is not finished")


class ReplyTooLargeError(RequestRefusedError):
    """The reply does not fit one message."""

    code = "reply_too_large"

    def __init__(self, reply_bytes: int) -> None:
        super().__init__(
            f"a reply of {reply_bytes} bytes does not fit one message; "
            f"use the _stream form of the method"
        )
        self.reply_bytes = reply_bytes
