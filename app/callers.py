"""Who is calling: API keys and addresses, known by their hashes only."""

import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import IPv6Address, ip_address

from pydantic import SecretStr

from app.errors import InvalidKeyError


@dataclass(frozen=True, slots=True)
class Caller:
    """One caller. Both ids are hashes; `key_id` is None where no keys are asked for."""

    key_id: str | None
    address_id: str

    @property
    def owner(self) -> str:
        """Whom conversations belong to."""
        return f"address:{self.address_id}" if self.key_id is None else f"key:{self.key_id}"

    @property
    def tenant(self) -> str:
        """Whose conversations may share what servers have computed; without keys, everybody's."""
        return self.key_id or ""


class Keyring:
    """The API keys callers may have; none at all means that nobody needs one."""

    def __init__(self, api_keys: Iterable[SecretStr]) -> None:
        self._digests = [_digest(key.get_secret_value()) for key in api_keys]

    def identify(self, authorization: str | None, address: str | None) -> Caller:
        """Return the caller behind an `Authorization` header and an address.

        Every known key is compared, each in constant time, so that the time tells nothing.

        Raises:
            InvalidKeyError: a key is needed, and missing or wrong.
        """
        address_id = _address_id(address)
        if not self._digests:
            return Caller(None, address_id)
        scheme, _, key = (authorization or "").partition(" ")
        given = _digest(key.strip())
        matches = [hmac.compare_digest(given, digest) for digest in self._digests]
        if scheme.lower() != "bearer" or not any(matches):
            raise InvalidKeyError
        return Caller(given.hex()[:32], address_id)


def _digest(text: str) -> bytes:
    return sha256(text.encode("utf-8", "surrogateescape")).digest()


def _address_id(address: str | None) -> str:
    """Hash an address; one IPv6 caller usually has a whole /64, which counts as one."""
    text = address or "unknown"
    try:
        parsed = ip_address(text)
    except ValueError:
        parsed = None
    if isinstance(parsed, IPv6Address):
        text = str(IPv6Address(int(parsed) >> 64 << 64))
    return _digest(text).hex()[:32]
