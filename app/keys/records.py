"""A stored key: everything about it but the secret, of which only the hash is known."""

import hmac
import re
import secrets
from hashlib import sha256
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from app.keys.grants import ALL_SCOPES, DEFAULT_LIMITS, KeyLimits, KeyScopes

_KEY: Final = re.compile(r"sg_([0-9a-f]{16})_[A-Za-z0-9_-]{43}")


class KeySecret(BaseModel):
    """The hash of a secret, and until when it is good; SHA-256 is enough for 256 random bits."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    expires_at: int | None = None

    def matches(self, digest: bytes, now: float) -> bool:
        """Tell whether this is the secret; the time it takes tells nothing of the hash."""
        is_equal = hmac.compare_digest(bytes.fromhex(self.digest), digest)
        return is_equal and (self.expires_at is None or now < self.expires_at)


class KeyRecord(BaseModel):
    """One key. Times are whole UTC seconds.

    Attributes:
        id: part of the key's text, and the owner of all that its callers do.
        version: counts the changes, from 1.
        secrets: those that open now; more than one while a rotated key is being replaced.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[0-9a-f]{16}$")
    version: int = Field(default=1, ge=1)
    name: str = Field(min_length=1, max_length=100)
    secrets: tuple[KeySecret, ...] = Field(min_length=1, max_length=8)
    scopes: KeyScopes = ALL_SCOPES
    limits: KeyLimits = DEFAULT_LIMITS
    created_at: int
    expires_at: int | None = None
    revoked_at: int | None = None

    def matches(self, digest: bytes, now: float) -> bool:
        """Tell whether this is the hash of the key's text; compares with every secret."""
        matches = [secret.matches(digest, now) for secret in self.secrets]
        return any(matches)

    def is_live(self, now: float) -> bool:
        """Tell whether the key is neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


def new_key_id() -> str:
    """Return an id that no other key has."""
    return secrets.token_hex(8)


def new_key_text(key_id: str) -> str:
    """Return the text of a new key: what its callers send, and nobody stores."""
    return f"sg_{key_id}_{secrets.token_urlsafe(32)}"


def key_id_of(text: str) -> str | None:
    """Return the id in a key's text; None if it is none of ours."""
    match = _KEY.fullmatch(text)
    return None if match is None else match[1]


def digest_of(text: str) -> bytes:
    """Return the hash of a key's text."""
    return sha256(text.encode("utf-8", "surrogateescape")).digest()
