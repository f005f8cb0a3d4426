"""How much memory the local parts of all models may take, counted before they are loaded."""

from collections.abc import Iterator
from contextlib import contextmanager

from app.inference.errors import MemoryBudgetError


class MemoryBudget:
    """Used from one event loop. `max_bytes` None allows everything, and counts all the same."""

    def __init__(self, max_bytes: int | None) -> None:
        self.max_bytes = max_bytes
        self._taken: dict[str, int] = {}

    @property
    def taken_bytes(self) -> int:
        """What all models take together."""
        return sum(self._taken.values())

    def bytes_of(self, model_id: str) -> int:
        """Return what one model takes; 0 if it is not here."""
        return self._taken.get(model_id, 0)

    @contextmanager
    def taking(self, model_id: str, num_bytes: int) -> Iterator[None]:
        """Take memory for a model; given back by `give_back`, or if the block fails.

        Raises:
            MemoryBudgetError: it does not fit; nothing was taken.
        """
        if self.max_bytes is not None and self.taken_bytes + num_bytes > self.max_bytes:
            raise MemoryBudgetError(model_id, num_bytes, self.taken_bytes, self.max_bytes)
        self._taken[model_id] = num_bytes
        try:
            yield
        except BaseException:
            self.give_back(model_id)
            raise

    def give_back(self, model_id: str) -> None:
        """Note that a model is gone. Idempotent."""
        self._taken.pop(model_id, None)
