"""What the daemon's report of a failed call means. Pure.

hivemind has one class for several failures, which only their text tells apart; the text comes from
libp2p and differs between its versions (PETALS_PROTOCOL §1.7).
"""

from typing import Final

from hivemind.p2p import P2PHandlerError

from swarm_protocol.errors import (
    PeerError,
    PeerRefusedError,
    PeerUnreachableError,
    ProtocolNotSupportedError,
)
from swarm_protocol.identifiers import PeerId

_NOT_SUPPORTED: Final = ("protocol not supported", "protocols not supported")


def as_peer_error(peer: PeerId, report: Exception) -> PeerError:
    """Return the error that a report of hivemind's about a call to `peer` stands for."""
    text = str(report)
    if any(phrase in text for phrase in _NOT_SUPPORTED):
        return ProtocolNotSupportedError(peer, "does not serve this method")
    if isinstance(report, P2PHandlerError):
        return PeerRefusedError(peer, text)
    return PeerUnreachableError(peer, "cannot be reached")
