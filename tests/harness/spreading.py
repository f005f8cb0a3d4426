"""How tests are spread over processes where pytest is given `-n`: files stay whole.

Fixtures of a file are made once, then, and tests that kill servers share one swarm.
"""

from typing import Final

import pytest
from xdist.scheduler import LoadScopeScheduling

_CHAOS: Final = "tests/chaos/"
_OWN_SWARMS: Final = tuple(_CHAOS + name for name in ("test_links", "test_redis", "test_full_disk"))
"""Files that begin so have a swarm each; the others of `tests/chaos` share one."""

_FIRST: Final = (_CHAOS, "tests/unit/", "tests/integration/")


class FileScheduling(LoadScopeScheduling):  # type: ignore[misc]  # its package has no types
    """Gives each process a file at a time, and to one of them all that share a swarm."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        is_shared = file.startswith(_CHAOS) and not file.startswith(_OWN_SWARMS)
        return _CHAOS if is_shared else file


def spread(items: list[pytest.Item]) -> None:
    """Sort the tests in place: the longest work first, beside what needs one core only."""
    items.sort(key=lambda item: _rank(item.nodeid))


def _rank(nodeid: str) -> int:
    ranks = [rank for rank, folder in enumerate(_FIRST) if nodeid.startswith(folder)]
    return ranks[0] if ranks else len(_FIRST)
