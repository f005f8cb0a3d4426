"""Which sites' pages may use the gateway from a browser. Pure.

Programs send no Origin, and may. A page's own gateway is the one that it came from; so a name that
anybody could have pointed at us must not count as ours, or a foreign page would be of our origin
(DNS rebinding).
"""

from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

_LOCAL_ENDING: Final = ".localhost"


class OriginRules:
    """The rules of one gateway.

    Args:
        sites: origins that may do what our own pages may, e.g. `https://chat.example.org`.
        is_open: whether there are no keys: what the name says is then all that keeps pages out.
    """

    def __init__(self, sites: Iterable[str], *, is_open: bool) -> None:
        self._sites = frozenset(site.lower().rstrip("/") for site in sites)
        self._hosts = frozenset(site.partition("://")[2] for site in self._sites)
        self._is_open = is_open

    def allows_host(self, host: str) -> bool:
        """Tell whether a request to this name (the header `Host`) may be answered at all."""
        return not self._is_open or host.lower() in self._hosts or _is_private_name(host)

    def allows_origin(self, origin: str | None, host: str) -> bool:
        """Tell whether a page of this origin may call us by the name `host`."""
        if origin is None:
            return True
        origin = origin.lower().rstrip("/")
        if origin in self._sites:
            return True
        return bool(host) and origin in (f"http://{host.lower()}", f"https://{host.lower()}")


def _is_private_name(host: str) -> bool:
    """Addresses, and names that nobody can register: those without a dot, and below localhost."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    name = name.rstrip(".")
    if "." not in name and ":" not in name:
        return True
    try:
        ip_address(name)
    except ValueError:
        return name.endswith(_LOCAL_ENDING)
    return True
