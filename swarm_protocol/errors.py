"""Errors of everything that crosses the wire, and the root of all errors callers may see.

SwarmError
├── PeerError                a named peer did something wrong, or nothing at all
│   ├── PeerUnreachableError     it could not be dialled, or the connection broke
│   ├── PeerRefusedError         it answered with an error
│   ├── PeerMisbehavedError      its answer fails a check
│   └── ProtocolNotSupportedError  it does not serve the method
├── DeadlineExceededError    the time for an operation ran out
├── MalformedMessageError    bytes from outside fail a check
├── NodeError                our own libp2p node cannot start, or has stopped
└── CheckpointError          a model's files are missing, unsafe or do not fit
    ├── UnsupportedModelError    the architecture has no module here
    └── DiskFullError            a file of the hub does not fit on the disk, or its limit

Each package hangs its own errors under `SwarmError`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from swarm_protocol.identifiers import PeerId


class SwarmError(Exception):
    """Base of every error a caller of our packages may see."""

    code: ClassVar[str] = "swarm_error"  # stable: appears in API replies and metric labels
    retryable: ClassVar[bool] = False


class PeerError(SwarmError):
    """A named peer did something wrong, or nothing at all."""

    code = "peer_error"
    retryable = True

    def __init__(self, peer: "PeerId", reason: str) -> None:
        super().__init__(f"peer {peer}: {reason}")
        self.peer = peer
        self.reason = reason


class PeerUnreachableError(PeerError):
    """The peer could not be dialled, or the connection to it broke."""

    code = "peer_unreachable"


class PeerRefusedError(PeerError):
    """The peer answered with an error; `reason` is its own text, for logs and not for callers."""

    code = "peer_refused"


class PeerMisbehavedError(PeerError):
    """The peer's answer fails a check: shape, dtype, length or order."""

    code = "peer_misbehaved"


class ProtocolNotSupportedError(PeerError):
    """The peer is alive but does not serve the method."""

    code = "protocol_not_supported"
    retryable = False


class DeadlineExceededError(SwarmError):
    """The time for an operation ran out."""

    code = "deadline_exceeded"
    retryable = True


class MalformedMessageError(SwarmError):
    """Bytes from outside fail a check; the message says what was expected and what came."""

    code = "malformed_message"


class NodeError(SwarmError):
    """Our own libp2p node cannot start, or has stopped."""

    code = "node_failed"


class CheckpointError(SwarmError):
    """A model's files are missing, unsafe or do not fit."""

    code = "bad_checkpoint"


class UnsupportedModelError(CheckpointError):
    """The architecture has no module here."""

    code = "unsupported_model"

    def __init__(
        self, model_type: str, supported: Sequence[str], *, ships_code: bool = False
    ) -> None:
        names = ", ".join(sorted(supported))
        sentence = f"model type {model_type!r} is not supported; supported: {names}"
        if ships_code:
            sentence += "; the model comes with code of its own, which is never run"
        super().__init__(sentence)
        self.model_type = model_type


class DiskFullError(CheckpointError):
    """A file of the hub does not fit: 1 GiB of the disk stays free, and a limit is a limit."""

    code = "disk_full"

    def __init__(self, missing_bytes: int) -> None:
        missing_gb = missing_bytes / 1e9
        super().__init__(
            f"the model's next file needs {missing_gb:.2f} GB more than the disk, or the limit set "
            f"for stored models, has room for; a higher limit or fewer blocks would help"
        )
        self.missing_bytes = missing_bytes
