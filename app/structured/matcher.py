"""Follows one output through its grammar."""

from llguidance import LLMatcher
from torch import Tensor, empty, int32

from app.structured.errors import GrammarFailedError


class GrammarMatcher:
    """`TokenMatcher` on a compiled grammar, which is its own.

    Args:
        num_words: of the library's mask, which counts the tokenizer's tokens; the model may have
            more logits or fewer.
    """

    def __init__(self, matcher: LLMatcher, num_words: int) -> None:
        self._matcher = matcher
        self._num_words = num_words

    @property
    def is_finished(self) -> bool:
        """Whether nothing can follow."""
        return self._matcher.is_stopped()

    def fill_mask(self, out: Tensor) -> None:
        """Say which tokens may come next; see `TokenMatcher`.

        Raises:
            GrammarFailedError: it would take too long, or too much memory.
        """
        if len(out) == self._num_words:
            self._fill(out)
            return
        mask = empty(self._num_words, dtype=int32)
        self._fill(mask)
        size = min(len(out), len(mask))
        out[:size] = mask[:size]
        out[size:] = 0

    def accept(self, token_id: int) -> None:
        """Take the next token.

        Raises:
            GrammarFailedError: the mask did not allow it.
        """
        if not self._matcher.consume_token(token_id):
            raise GrammarFailedError

    def _fill(self, mask: Tensor) -> None:
        self._matcher.unsafe_compute_mask_ptr(mask.data_ptr(), mask.numel() * mask.element_size())
        if self._matcher.is_error():
            raise GrammarFailedError
