"""Who may ask for which path: the one table. What is not in it needs a key.

A path of a new surface needs a line only if it is public, for administrators, or belongs to a
group of routes that keys may be confined to.
"""

from dataclasses import dataclass
from typing import Final

from app.keys.grants import KeySurface


@dataclass(frozen=True, slots=True)
class Access:
    """What a path asks of its callers.

    Attributes:
        surface: the group of routes that it belongs to; None: of no group, open to every key.
    """

    is_public: bool = False
    needs_admin: bool = False
    surface: KeySurface | None = None


_PUBLIC: Final = Access(is_public=True)
_ANY_KEY: Final = Access()
_EXACT: Final = {
    "/": _PUBLIC,
    "/swarm": _PUBLIC,
    "/health/live": _PUBLIC,
    "/health/ready": _PUBLIC,
    "/openapi.json": _PUBLIC,
    "/metrics": Access(surface=KeySurface.STATUS),
    "/api/v1/swarm": Access(surface=KeySurface.STATUS),
    "/api/v1/generate": Access(surface=KeySurface.PETALS),
    "/api/v2/generate": Access(surface=KeySurface.PETALS),
    "/tokenize": Access(surface=KeySurface.TOKENS),
    "/detokenize": Access(surface=KeySurface.TOKENS),
    "/v1/models": _ANY_KEY,
    "/v1/messages": Access(surface=KeySurface.ANTHROPIC),
}
# The first that fits counts; each ends with a slash, so that no name is taken for another.
_FOLDERS: Final = (
    ("/static/", _PUBLIC),
    ("/api/v1/admin/", Access(needs_admin=True)),
    ("/v1/models/", _ANY_KEY),
    ("/v1/messages/", Access(surface=KeySurface.ANTHROPIC)),
    ("/v1/", Access(surface=KeySurface.OPENAI)),
)


def access_to(path: str) -> Access:
    """Return what a path asks, whether there is anything at it or not."""
    exact = _EXACT.get(path)
    if exact is not None:
        return exact
    for folder, access in _FOLDERS:
        if path.startswith(folder):
            return access
    return _ANY_KEY
