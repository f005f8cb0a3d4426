"""Where a JSON value ends, in text that arrives in pieces. Pure; does not check what is within."""

from typing import Final

_ENDS_WORD: Final = " \t\r\n,}]"


class JsonValue:
    """One value from its first character on.

    Attributes:
        is_text: it is a JSON string.
        is_done: its last character has come. A number or a word is never done: it ends in front of
            the first character that `push` refuses.
    """

    def __init__(self, first: str) -> None:
        self.is_text = first == '"'
        self.is_done = False
        self._depth = int(first in "{[")
        self._in_string = self.is_text
        self._is_escaped = False

    def push(self, character: str) -> bool:
        """Take the next character; tell whether it belongs to the value."""
        if self._in_string:
            self._push_in_string(character)
        elif self._depth == 0:
            return character not in _ENDS_WORD
        elif character == '"':
            self._in_string = True
        else:
            self._depth += (character in "{[") - (character in "}]")
            self.is_done = self._depth == 0
        return True

    def _push_in_string(self, character: str) -> None:
        self._in_string = character != '"' or self._is_escaped
        self._is_escaped = character == "\\" and not self._is_escaped
        self.is_done = self._depth == 0 and not self._in_string
