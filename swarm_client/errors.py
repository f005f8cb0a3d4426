"""Errors of the client library, under `SwarmError`.

SwarmError
├── NoRouteError               online servers do not cover all blocks
├── SessionLostError           a hop of an open session failed, so the session is closed
├── SessionClosedError         the session was closed before
├── ModelClosedError           the model has left its swarm
├── MaxLengthExceededError     the tokens do not fit the session
├── CapacityError              a server refused KV memory
├── PeerRefusedError           of swarm_protocol: a server answered with an error
│   └── PeerFullError              it says that it has no KV memory, or too many sessions
├── ServerBusyError            a server has no room for another forward or backward request
├── RequestTooLargeError       a server takes no forward or backward request of that size
├── RollbackUnsupportedError   a server of the route cannot shorten its KV cache
├── InvalidParametersError     a sampling number is out of range
├── LengthNotGivenError        nothing, or two things, say how long a generation may get
└── PaddingError               a batch is padded as servers cannot run it
"""

from collections.abc import Sequence

from swarm_protocol.errors import (
    DeadlineExceededError,
    PeerRefusedError,
    PeerUnreachableError,
    SwarmError,
)
from swarm_protocol.identifiers import BlockRange, PeerId


class NoRouteError(SwarmError):
    """No route of online servers covers all blocks; `missing` names the gaps.

    Servers without `adapter`, where one is wanted, do not count.
    """

    code = "no_route"
    retryable = True

    def __init__(self, missing: Sequence[BlockRange], *, adapter: str | None = None) -> None:
        gaps = ", ".join(map(str, missing))
        wanted = "" if adapter is None else f" with the adapter {adapter}"
        super().__init__(f"no online server holds blocks {gaps}{wanted}")
        self.missing = tuple(missing)
        self.adapter = adapter


class SessionLostError(SwarmError):
    """A hop failed in the middle of a session; what it held is lost. The cause is chained."""

    code = "session_lost"
    retryable = True

    def __init__(self, peer: PeerId, blocks: BlockRange) -> None:
        super().__init__(f"the server {peer} of blocks {blocks} was lost")
        self.peer = peer
        self.blocks = blocks


class SessionClosedError(SwarmError):
    """The session was closed, by its owner or by an earlier error."""

    code = "session_closed"

    def __init__(self) -> None:
        super().__init__("the inference session is closed")


class ModelClosedError(SwarmError):
    """The model was closed, and all its sessions with it."""

    code = "model_closed"

    def __init__(self) -> None:
        super().__init__("the model was closed, and has left its swarm")


class MaxLengthExceededError(SwarmError):
    """The tokens do not fit the session; nothing was sent. The wording is Petals'."""

    code = "max_length_exceeded"

    def __init__(self, position: int, num_tokens: int, max_length: int) -> None:
        super().__init__(
            f"Maximum length exceeded: prefix {position} + current {num_tokens} "
            f"exceeds pre-allocated maximum {max_length}"
        )
        self.position = position
        self.num_tokens = num_tokens
        self.max_length = max_length


class CapacityError(SwarmError):
    """A server has no KV memory for the session right now."""

    code = "no_capacity"
    retryable = True

    def __init__(self, peer: PeerId, blocks: BlockRange) -> None:
        super().__init__(f"the server {peer} of blocks {blocks} has no memory for this session")
        self.peer = peer
        self.blocks = blocks


class PeerFullError(PeerRefusedError):
    """A server says, in our own dialect, that it has no KV memory or too many sessions.

    Sessions turn it into a `CapacityError`.
    """


class ServerBusyError(SwarmError):
    """A server has no room for another forward or backward request right now."""

    code = "server_busy"
    retryable = True

    def __init__(self, peer: PeerId, blocks: BlockRange) -> None:
        super().__init__(f"the server {peer} of blocks {blocks} takes no more requests right now")
        self.peer = peer
        self.blocks = blocks


class RequestTooLargeError(SwarmError):
    """A server takes no forward or backward request of that many tokens. The cause is chained."""

    code = "request_too_large"

    def __init__(self, peer: PeerId, blocks: BlockRange, num_tokens: int) -> None:
        super().__init__(
            f"the server {peer} of blocks {blocks} takes no request of {num_tokens} tokens"
        )
        self.peer = peer
        self.blocks = blocks
        self.num_tokens = num_tokens


class RollbackUnsupportedError(SwarmError):
    """A server of the route has not proved that it can shorten its KV cache."""

    code = "rollback_unsupported"

    def __init__(self) -> None:
        super().__init__("a server of this session's route cannot roll back")


class InvalidParametersError(SwarmError):
    """A sampling parameter is out of range."""

    code = "invalid_parameters"

    def __init__(self, field: str, expected: str, got: object) -> None:
        super().__init__(f"{field} must be {expected}, got {got!r:.60}")
        self.field = field
        self.expected = expected


class PaddingError(SwarmError, ValueError):
    """Padding that cannot be kept from the servers, who know no attention masks."""

    code = "unsupported_padding"

    def __init__(self, expected: str, got: str) -> None:
        super().__init__(f"padding: expected {expected}, got {got}")
        self.expected = expected
        self.got = got


class LengthNotGivenError(SwarmError, ValueError):
    """`generate` needs one number to reserve the servers' KV memory by. The wording is Petals'."""

    code = "length_not_given"

    def __init__(self) -> None:
        super().__init__(
            "You should set `max_length` or `max_new_tokens` (but not both) "
            "to reserve server-side attention caches"
        )


def is_silence(error: SwarmError) -> bool:
    """Tell whether a peer gave no answer, rather than a wrong one."""
    return isinstance(error, PeerUnreachableError | DeadlineExceededError)
