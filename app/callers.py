"""Who is calling: known by hashes and ids only, with what its key allows."""

from dataclasses import dataclass
from hashlib import sha256
from ipaddress import IPv6Address, ip_address

from app.errors import OutOfScopeError
from app.keys.grants import ALL_SCOPES, DEFAULT_LIMITS, KeyLimits, KeyScopes


@dataclass(frozen=True, slots=True)
class Caller:
    """One caller.

    Attributes:
        key_id: of a stored key its id, of one in the settings its hash; None without a key.
        address_id: a hash.
    """

    key_id: str | None
    address_id: str
    scopes: KeyScopes = ALL_SCOPES
    limits: KeyLimits = DEFAULT_LIMITS

    @property
    def owner(self) -> str:
        """Whom conversations belong to, and who shares slots with whom."""
        return f"address:{self.address_id}" if self.key_id is None else f"key:{self.key_id}"

    @property
    def tenant(self) -> str:
        """Whose conversations may share what servers have computed; without keys, everybody's."""
        return self.key_id or ""

    def check_model(self, model_id: str) -> None:
        """Return when the caller may use this model.

        Raises:
            OutOfScopeError: its key is for others.
        """
        if not self.scopes.allow_model(model_id):
            raise OutOfScopeError(f"the model {model_id}")


def address_id_of(address: str | None) -> str:
    """Hash an address; one IPv6 caller usually has a whole /64, which counts as one.

    IPv4 addresses in IPv6's clothes (`::ffff:192.0.2.1`, as proxies write them) are what they are.
    """
    text = address or "unknown"
    try:
        parsed = ip_address(text)
    except ValueError:
        parsed = None
    if isinstance(parsed, IPv6Address):
        text = str(parsed.ipv4_mapped or IPv6Address(int(parsed) >> 64 << 64))
    return sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]
