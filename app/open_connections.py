"""How many TCP connections each address has. Pure.

A connection costs a file descriptor before its first byte, and is accepted before anybody knows a
key: without a bound, one address could take all of them by dialling faster than heads time out.
"""

from collections import Counter
from collections.abc import Sequence
from ipaddress import ip_address, ip_network

from app.callers import address_id_of


class OpenConnections:
    """Counts connections of one process.

    Args:
        max_per_address: 0 is no limit.
        exempt: addresses and networks that speak for many callers; they may have any number.
    """

    def __init__(self, max_per_address: int = 0, exempt: Sequence[str] = ()) -> None:
        self._max_per_address = max_per_address
        self._exempt = [ip_network(text) for text in exempt]
        self._num_open: Counter[str] = Counter()

    def open(self, address: str) -> bool:
        """Count a new connection; False if there are enough, and it is not counted."""
        if not self._max_per_address or self._is_exempt(address):
            return True
        address_id = address_id_of(address)
        if self._num_open[address_id] >= self._max_per_address:
            return False
        self._num_open[address_id] += 1
        return True

    def close(self, address: str) -> None:
        """Forget a connection that was opened."""
        if not self._max_per_address or self._is_exempt(address):
            return
        address_id = address_id_of(address)
        self._num_open[address_id] -= 1
        if not self._num_open[address_id]:
            del self._num_open[address_id]

    def _is_exempt(self, address: str) -> bool:
        return any(ip_address(address) in network for network in self._exempt)
