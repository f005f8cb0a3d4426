"""A new libp2p identity, written without hivemind: importing that takes seconds.

The peer id of the bootstrap is part of the address that every server is given, so it must be
known before the gateway has started. `swarm_protocol.hivemind.make_identity` reads the same file.
Source: PETALS_PROTOCOL §0.1; libp2p peer-ids specification.
"""

import hashlib
import os
from pathlib import Path
from typing import Final

import base58
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from swarm_protocol.identifiers import PeerId

_KEY_BITS: Final = 2048
_SHA2_256: Final = b"\x12\x20"  # multihash: code and length


def write_identity(path: Path) -> PeerId:
    """Write a new RSA key to `path`, readable by its owner only, and return its peer id.

    Raises:
        FileExistsError: there is one already.
    """
    key = rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)
    private = key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
    with os.fdopen(descriptor, "wb") as file:
        file.write(_key_message(private))
    digest = hashlib.sha256(_key_message(public)).digest()
    return PeerId(base58.b58encode(_SHA2_256 + digest).decode())


def _key_message(key: bytes) -> bytes:
    """Return the protobuf message `{1: key_type = RSA (0), 2: key}`."""
    length = len(key)
    assert 128 <= length < 1 << 14, "its length takes two bytes as a varint"
    return b"\x08\x00\x12" + bytes([length & 0x7F | 0x80, length >> 7]) + key
