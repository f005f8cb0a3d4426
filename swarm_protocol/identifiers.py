"""Names of things in the swarm: peers, blocks and models. Pure text, no I/O.

Source: PETALS_PROTOCOL §1.3 (module keys).
"""

from typing import NewType

PeerId = NewType("PeerId", str)
"""A libp2p peer id as base58 text: `Qm…` (RSA) or `12D3KooW…` (Ed25519)."""
