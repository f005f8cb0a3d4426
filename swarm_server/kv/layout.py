"""How the blocks of a span share pages.

Blocks with a sliding window need only the last pages of a sequence, others need all. Blocks of
one window are cut into groups, all groups of one size, so that any page serves any group:

    windows of blocks   4 4 4 4 4 -  4 4 4 4 4 -        (gcd of 10 and 2: groups of 2)
    groups              0 0 1 1 2 5  2 3 3 4 4 5
"""

from collections.abc import Sequence
from math import gcd


class KVLayout:
    """Groups of blocks; block indexes count from the start of the span."""

    def __init__(self, windows: Sequence[int | None], page_size: int) -> None:
        """Cut the blocks into groups.

        Args:
            windows: of each block; None where a token sees all before it. At least one block.
            page_size: tokens of a page.
        """
        classes: dict[int | None, list[int]] = {}
        for index, window in enumerate(windows):
            classes.setdefault(window, []).append(index)
        self.page_size = page_size
        self.group_size = gcd(*(len(indexes) for indexes in classes.values()))
        self._windows: list[int | None] = []
        self._places: dict[int, tuple[int, int]] = {}
        for window, indexes in classes.items():
            for place, index in enumerate(indexes):
                if place % self.group_size == 0:
                    self._windows.append(window)
                self._places[index] = (len(self._windows) - 1, place % self.group_size)

    @property
    def num_groups(self) -> int:
        """How many groups there are; a sequence has a page table in each."""
        return len(self._windows)

    @property
    def has_windows(self) -> bool:
        """Whether any block has one."""
        return any(window is not None for window in self._windows)

    def group_of(self, block_index: int) -> tuple[int, int]:
        """Return a block's group, and its number there."""
        return self._places[block_index]

    def window_of(self, group: int) -> int | None:
        """Return the window of a group's blocks."""
        return self._windows[group]
