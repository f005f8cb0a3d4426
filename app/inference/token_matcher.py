"""What the engine asks of those who know grammars; it knows none itself."""

from typing import Protocol

from torch import Tensor

from app.inference.requests import OutputConstraint


class TokenMatcher(Protocol):
    """Follows the output of one generation through its constraint.

    Called by one thread at a time, though not always the same one: `fill_mask`, which may take
    long, by a thread while the servers are busy; `accept` by the event loop.
    """

    @property
    def is_finished(self) -> bool:
        """Whether the output matches, and nothing can follow: the generation ends here."""

    def fill_mask(self, out: Tensor) -> None:
        """Say which tokens may come next.

        Args:
            out: int32 `[ceil(vocab_size / 32)]` on the CPU; all of it is written. Token `i` may
                come if bit `i % 32` of word `i // 32` is set.
        """

    def accept(self, token_id: int) -> None:
        """Take a token that the mask has allowed."""


class MatcherSource(Protocol):
    """Makes matchers for the vocabulary of one model."""

    async def prepare(self, constraint: OutputConstraint, tenant: str = "") -> None:
        """Find out whether a constraint can be used; raises as `matcher` does.

        What that costs is laid upon the tenant, and not upon others.
        """

    async def matcher(self, constraint: OutputConstraint) -> TokenMatcher:
        """Return a matcher at the beginning of the output.

        Raises:
            SwarmError: the constraint is no valid one, or too large.
        """

    async def close(self) -> None:
        """Free what it holds. Idempotent."""
