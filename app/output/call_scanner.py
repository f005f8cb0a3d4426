"""Reads one call of a tool, `{"name": …, "arguments": {…}}`, from text that arrives in pieces.

Pure. What it finds does not depend on how the text was cut. The arguments are passed on as they
come, in the model's own spelling.
"""

import json
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from app.output.json_value import JsonValue

_BLANKS: Final = " \t\r\n"
_ARGUMENTS: Final = ("arguments", "parameters")
_MAX_HEAD: Final = 4096
"""Characters that are kept back for the sake of a name that may still come."""


class _Next(Enum):
    """What may come next within the object, blanks aside."""

    BRACE = auto()
    KEY = auto()  # or the end
    COLON = auto()
    VALUE = auto()
    COMMA = auto()  # or the end


@dataclass(slots=True)
class CallDelta:
    """What some text adds to a call. `name` is set once."""

    name: str = ""
    arguments: str = ""


class CallScanner:
    """Scans from the first brace to the matching one.

    Attributes:
        name: of the tool; empty until it is known.
        head: all of the object's text up to its name.
        is_done: the object is complete.
        is_broken: this is no call: no JSON object, or one without a name.
    """

    def __init__(self) -> None:
        self.name = ""
        self.head = ""
        self.is_done = False
        self.is_broken = False
        self._next = _Next.BRACE
        self._value: JsonValue | None = None  # a key is one, too
        self._is_key = False
        self._key = ""
        self._kept: list[str] = []  # of a value that is needed whole
        self._arguments = ""  # that came before the name
        self._has_arguments = False

    def push(self, text: str) -> tuple[CallDelta, int]:
        """Take the next text, up to where the name is known, or the object ends.

        Returns:
            What it adds, and how many characters were taken.
        """
        delta = CallDelta()
        for index, character in enumerate(text):
            if not self.name:
                self.head += character
                self.is_broken = len(self.head) > _MAX_HEAD
            self._step(character, delta)
            if self.is_done or self.is_broken or delta.name:
                return delta, index + 1
        return delta, len(text)

    def _step(self, character: str, delta: CallDelta) -> None:
        if self._value is None:
            if character not in _BLANKS:
                self._step_between(character, delta)
            return
        if self._value.push(character):
            self._keep(character, delta)
            if not self._value.is_done:
                return
            self._end_value(delta)
        else:  # it was a number or a word, and has ended before this character
            self._end_value(delta)
            self._step(character, delta)

    def _step_between(self, character: str, delta: CallDelta) -> None:
        match self._next, character:
            case _Next.BRACE, "{":
                self._next = _Next.KEY
            case ((_Next.KEY | _Next.COMMA), "}"):
                self._finish(delta)
            case _Next.KEY, '"':
                self._begin_value(character, delta, is_key=True)
            case _Next.COLON, ":":
                self._next = _Next.VALUE
            case _Next.VALUE, _ if character not in ",:}]":
                self._begin_value(character, delta, is_key=False)
            case _Next.COMMA, ",":
                self._next = _Next.KEY
            case _:
                self.is_broken = True

    def _begin_value(self, character: str, delta: CallDelta, *, is_key: bool) -> None:
        self._value, self._is_key, self._kept = JsonValue(character), is_key, []
        self._has_arguments |= not is_key and self._key in _ARGUMENTS
        self._keep(character, delta)

    def _keep(self, character: str, delta: CallDelta) -> None:
        assert self._value is not None
        if self._is_key or (self._value.is_text and self._key in ("name", *_ARGUMENTS)):
            self._kept.append(character)
        elif self._key in _ARGUMENTS:
            self._pass_on(character, delta)

    def _end_value(self, delta: CallDelta) -> None:
        text, self._value = _decoded("".join(self._kept)), None
        if self._is_key:
            self._key, self._next = text, _Next.COLON
            return
        self._next = _Next.COMMA
        if self._key == "name" and not self.name:
            self.name, self.is_broken = text, not text
            delta.name, delta.arguments = text, self._arguments
        elif self._key in _ARGUMENTS:  # JSON within a JSON text, if there is any
            self._pass_on(text, delta)

    def _pass_on(self, arguments: str, delta: CallDelta) -> None:
        if self.name:
            delta.arguments += arguments
        else:
            self._arguments += arguments

    def _finish(self, delta: CallDelta) -> None:
        self.is_done, self.is_broken = bool(self.name), not self.name
        if self.is_done and not self._has_arguments:
            delta.arguments += "{}"


def _decoded(token: str) -> str:
    """Return the text of a JSON string; empty if it is none."""
    try:
        value = json.loads(token, strict=False)
    except ValueError:
        return ""
    return value if isinstance(value, str) else ""
