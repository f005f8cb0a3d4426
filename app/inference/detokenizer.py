"""Turns token ids into text as they come. Pure; knows no stop texts."""

from collections.abc import Callable, Sequence
from typing import Final

_INCOMPLETE: Final = "\ufffd"  # what an incomplete or broken character decodes to
_MAX_CHARACTER_TOKENS: Final = 4  # a character has at most four bytes, a token at least one
_MAX_HELD: Final = 2 * _MAX_CHARACTER_TOKENS
_MAX_CONTEXT: Final = 16


class Detokenizer:
    """Text of a growing list of tokens: the pieces together equal decoding all tokens at once.

    Only a window is decoded for each token: the tokens not passed on yet, behind those passed on
    before them, because a tokenizer may strip the space in front of the first word it sees. What
    ends in half a character is held back until the character is complete, or broken for certain.

    Args:
        decode: ids to text; an incomplete character at the end becomes U+FFFD.
        context_ids: tokens in front of the first one, whose text is not wanted.
    """

    def __init__(
        self, decode: Callable[[Sequence[int]], str], context_ids: Sequence[int] = ()
    ) -> None:
        self._decode = decode
        self._ids = list(context_ids[-_MAX_CONTEXT:])
        self._num_passed = len(self._ids)
        self._passed_text = decode(self._ids) if self._ids else ""
        self.is_whole = True  # no half character is held back

    def push(self, token_id: int) -> str:
        """Take the next token; return the text that is certain now, often of that token."""
        self._ids.append(token_id)
        text = self._decode(self._ids)
        self.is_whole = not text.endswith(_INCOMPLETE)
        if self.is_whole and text != self._passed_text:
            return self._pass_on(len(self._ids), text)
        if len(self._ids) - self._num_passed > _MAX_HELD:
            return self._pass_on_broken(text)
        return ""

    def finish(self) -> str:
        """Return what is held back, broken as it may be: no more tokens will come."""
        return self._pass_on(len(self._ids), self._decode(self._ids))

    def _pass_on_broken(self, text: str) -> str:
        """Pass on what later tokens cannot repair any more, so that the window stays small.

        A cut is inside a character if and only if decoding both sides apart changes the text.
        """
        last = len(self._ids) - _MAX_CHARACTER_TOKENS
        for end in range(last, last - _MAX_CHARACTER_TOKENS, -1):
            before = self._decode(self._ids[:end])
            if before + self._decode(self._ids[end:]) == text:
                return self._pass_on(end, before)
        return self._pass_on(len(self._ids), text)

    def _pass_on(self, end: int, text: str) -> str:
        """Return what `text`, of the first `end` tokens, adds; they are the next context."""
        if text.startswith(self._passed_text):
            new_text = text[len(self._passed_text) :]
        else:  # the new tokens changed how the context reads, which cannot be taken back
            new_text = self._decode(self._ids[self._num_passed : end])
        if new_text:
            del self._ids[: self._num_passed]
            self._num_passed = end - self._num_passed
            self._passed_text = self._decode(self._ids[: self._num_passed])
        else:  # tokens without text are no context for the space of the next word
            del self._ids[self._num_passed : end]
        return new_text
