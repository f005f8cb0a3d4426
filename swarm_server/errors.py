"""Errors of the block server.

SwarmError
├── BlockRangeError          the wanted blocks are not in the model
├── CheckpointError          of swarm_protocol: a model's files are missing or do not fit
│   └── AdapterError             an adapter's are, or it needs what is not served
├── DeviceError              there is no such device to compute on
├── RequestRefusedError      what a peer sent fails a check; its session is closed
│   ├── NotServedError           it names blocks or an adapter that this server does not hold
│   ├── InvalidStepError         a tensor's shape, dtype or values do not fit the session
│   ├── StepTooLargeError        more tokens in one step than the server computes at once
│   ├── MaxLengthExceededError   the step does not fit into the length reserved for the session
│   ├── InvalidPositionError     a rollback to a position the session never had
│   ├── SessionNotUniqueError    the session id is in use
│   ├── CopiesDisagreeError      a pushed step and the caller's own copy are not the same
│   ├── NotFiniteError           a step has given infinity or not-a-number
│   ├── StepUnfinishedError      the session has a step that is not finished
│   └── ReplyTooLargeError       the reply fits only a stream
├── KVMemoryError            the KV memory asked for is not there
│   └── PagesExhaustedError      too few pages are free just now; the engine waits or preempts
├── TooManySessionsError     the server runs its maximum of sessions
├── TooManyRequestsError     the server has its maximum of forward and backward requests
├── RequestExpiredError      a forward or backward request took longer than the server allows
├── ServerDrainingError      the server takes nothing new
├── SessionExpiredError      the session lasted longer than the server allows
└── StepFailedError          a fault of ours while computing a step
    └── BatchFailedError         the device failed on a batch of steps; they may succeed again

Peers get `str(error)`. Stock clients, and pages built on them, look for parts of these texts;
those that PETALS_PROTOCOL §3.8 lists are kept word for word.
"""

from collections.abc import Sequence

import torch

from swarm_protocol.errors import CheckpointError, SwarmError


class BlockRangeError(SwarmError):
    """The wanted blocks are not in the model."""

    code = "bad_block_range"

    def __init__(self, wanted: str, num_blocks: int) -> None:
        super().__init__(
            f"cannot serve blocks {wanted}: the model has {num_blocks} blocks, 0:{num_blocks}"
        )
        self.wanted = wanted
        self.num_blocks = num_blocks


class AdapterError(CheckpointError):
    """An adapter cannot be served: its files are missing, damaged, do not fit, or ask too much."""

    code = "bad_adapter"

    def __init__(self, adapter: str, reason: str) -> None:
        super().__init__(f"adapter {adapter}: {reason}")
        self.adapter = adapter


class DeviceError(SwarmError):
    """There is no such device to compute on."""

    code = "bad_device"

    def __init__(self, device: str) -> None:
        super().__init__(f"this machine has no device {device!r:.60} to compute on")
        self.device = device


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


class KVMemoryError(SwarmError):
    """The KV memory asked for is not there, now or ever."""

    code = "kv_memory_exhausted"
    retryable = True
    num_free_tokens: int | None = None  # where it is known

    @classmethod
    def over_limit(cls, max_length: int, limit: int) -> "KVMemoryError":
        """Return the error for a session longer than the server takes."""
        return cls(f"Cannot allocate KV cache for {max_length} tokens, max = {limit}")

    @classmethod
    def over_total(cls, wanted_bytes: int, total_bytes: int) -> "KVMemoryError":
        """Return the error for a session that does not fit into an empty server."""
        return cls(f"Could not allocate {wanted_bytes} bytes, max cache size = {total_bytes} bytes")

    @classmethod
    def full(cls, wanted_bytes: int, waited_s: float) -> "KVMemoryError":
        """Return the error for memory that others hold, after waiting `waited_s` for it."""
        if waited_s <= 0:
            return cls(f"Could not allocate {wanted_bytes} bytes immediately: out of memory")
        return cls(
            f"Server's attention cache is full, failed to allocate {wanted_bytes} bytes: "
            f"Could not allocate {wanted_bytes} within {waited_s:g} seconds"
        )

    @classmethod
    def no_pages(cls, num_tokens: int, num_free_tokens: int, waited_s: float) -> "KVMemoryError":
        """Return the error for a step of an open session that has waited for pages."""
        error = cls(
            f"Server's attention cache is full: no room for {num_tokens} tokens within "
            f"{waited_s:g} seconds, {num_free_tokens} tokens are free"
        )
        error.num_free_tokens = num_free_tokens
        return error


class PagesExhaustedError(KVMemoryError):
    """Too few pages are free just now."""

    code = "pages_exhausted"

    def __init__(self, num_wanted: int, num_available: int) -> None:
        super().__init__(f"{num_wanted} pages are needed, {num_available} are free")
        self.num_wanted = num_wanted
        self.num_available = num_available


class TooManySessionsError(SwarmError):
    """The server runs its maximum of sessions."""

    code = "too_many_sessions"
    retryable = True

    def __init__(self, max_sessions: int) -> None:
        super().__init__(f"this server runs its maximum of {max_sessions} sessions")
        self.max_sessions = max_sessions


class TooManyRequestsError(SwarmError):
    """The server has its maximum of forward and backward requests, those that wait included."""

    code = "too_many_requests"
    retryable = True

    def __init__(self, max_requests: int) -> None:
        super().__init__(f"this server has its maximum of {max_requests} requests")
        self.max_requests = max_requests


class RequestExpiredError(SwarmError):
    """A forward or backward request took longer than the server allows."""

    code = "request_expired"
    retryable = True

    def __init__(self, timeout_s: float) -> None:
        super().__init__(f"the request took longer than {timeout_s:g} seconds")
        self.timeout_s = timeout_s


class ServerDrainingError(SwarmError):
    """The server takes nothing new, because it is about to stop."""

    code = "server_draining"
    retryable = True

    def __init__(self) -> None:
        super().__init__("this server is shutting down")


class SessionExpiredError(SwarmError):
    """The session lasted longer than the server allows, or the server stops."""

    code = "session_expired"
    retryable = True


class StepFailedError(SwarmError):
    """A fault of ours while computing a step; its cause is in our log."""

    code = "step_failed"

    def __init__(self) -> None:
        super().__init__("the server failed to compute this step")


class BatchFailedError(StepFailedError):
    """The device failed on a batch of steps, of this and perhaps other sessions."""

    code = "batch_failed"
    retryable = True
