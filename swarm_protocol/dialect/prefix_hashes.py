"""Names for prefixes of a prompt, so that servers that see only hidden states can share pages.

Hash k is of the tokens of pages 0 to k: equal hashes mean equal tokens from the very beginning.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

import numpy as np

from swarm_protocol.dialect.openings import HASH_BYTES

_MAX_SALT_BYTES: Final = blake2b.MAX_KEY_SIZE


def hash_prefixes(token_ids: Sequence[int], page_size: int, salt: bytes) -> list[bytes]:
    """Return the hash of each prefix of whole pages, 16 bytes each, shortest first.

    Args:
        token_ids: of one row, from position 0 on.
        page_size: of the server, in tokens.
        salt: at most 64 bytes; prefixes are shared only where it is equal.
    """
    assert page_size >= 1
    assert len(salt) <= _MAX_SALT_BYTES
    ids = np.asarray(token_ids, dtype="<i8")
    state = blake2b(digest_size=HASH_BYTES, key=salt)
    hashes = []
    for end in range(page_size, len(ids) + 1, page_size):
        state.update(ids[end - page_size : end].tobytes())
        hashes.append(state.copy().digest())
    return hashes
