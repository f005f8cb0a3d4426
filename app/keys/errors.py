"""Errors of stored keys.

SwarmError
└── KeyStoreError
    ├── KeyNotFoundError       there is no key of this id
    ├── KeysNotStoredError     this gateway has nowhere to keep keys
    └── KeysUnreadableError    the file of keys cannot be read or written
"""

from pathlib import Path

from swarm_protocol.errors import SwarmError


class KeyStoreError(SwarmError):
    """Base of the errors of stored keys."""

    code = "key_store_error"


class KeyNotFoundError(KeyStoreError):
    """There is no key of this id."""

    code = "key_not_found"

    def __init__(self, key_id: str) -> None:
        super().__init__("there is no key of this id")
        self.key_id = key_id


class KeysNotStoredError(KeyStoreError):
    """This gateway has nowhere to keep keys."""

    code = "keys_not_stored"

    def __init__(self) -> None:
        super().__init__(
            "no place to keep keys: set SWARMGATE_REDIS_URL or SWARMGATE_KEYS__FILE first"
        )


class KeysUnreadableError(KeyStoreError):
    """The file of keys cannot be read or written; the message has no content of it."""

    code = "keys_unreadable"

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"the keys in {path} cannot be used: {reason}")
        self.path = path
