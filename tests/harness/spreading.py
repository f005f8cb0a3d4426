"""How tests are spread over processes where pytest is given `-n`: files stay whole.

Fixtures of a file are made once, then, and tests that kill servers share one swarm.
"""

from typing import Final

import pytest
from xdist.scheduler import LoadScopeScheduling

_SHARED_SWARM: Final = "tests/chaos/"
_FIRST: Final = (_SHARED_SWARM, "tests/unit/", "tests/integration/")


class FileScheduling(LoadScopeScheduling):  # type: ignore[misc]  # its package has no types
    """Gives each process a file at a time, and to one of them all of `tests/chaos`."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return _SHARED_SWARM if file.startswith(_SHARED_SWARM) else file


def spread(items: list[pytest.Item]) -> None:
    """Sort the tests in place: the longest work first, beside what needs one core only."""
    items.sort(key=lambda item: _rank(item.nodeid))


def _rank(nodeid: str) -> int:
    ranks = [rank for rank, folder in enumerate(_FIRST) if nodeid.startswith(folder)]
    return ranks[0] if ranks else len(_FIRST)
