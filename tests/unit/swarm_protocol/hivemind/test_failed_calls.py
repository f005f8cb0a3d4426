import pytest
from hivemind.p2p import P2PDaemonError, P2PHandlerError

from swarm_protocol.errors import (
    PeerRefusedError,
    PeerUnreachableError,
    ProtocolNotSupportedError,
)
from swarm_protocol.hivemind.failed_calls import as_peer_error
from swarm_protocol.identifiers import PeerId

PEER = PeerId("peer")


@pytest.mark.parametrize(
    "text",
    [
        "protocol not supported",
        "failed to negotiate protocol: protocols not supported: [DHTProtocol.rpc_ping]",
    ],
)
@pytest.mark.parametrize("kind", [P2PDaemonError, P2PHandlerError])
def test_a_missing_method_is_told_in_the_words_of_old_and_new_libp2p(
    kind: type[Exception], text: str
) -> None:
    """A peer that says so is alive: stock code that knows one form only takes it for dead."""
    assert isinstance(as_peer_error(PEER, kind(text)), ProtocolNotSupportedError)


def test_a_handlers_error_keeps_its_text() -> None:
    """The peer has answered."""
    error = as_peer_error(PEER, P2PHandlerError("ValueError('no such block')"))

    assert isinstance(error, PeerRefusedError)
    assert error.reason == "ValueError('no such block')"


def test_anything_else_is_a_peer_out_of_reach() -> None:
    """Its text names addresses, which are nobody's business."""
    error = as_peer_error(PEER, P2PDaemonError("failed to dial 12D3: all dials failed"))

    assert isinstance(error, PeerUnreachableError)
    assert "dial" not in str(error)
