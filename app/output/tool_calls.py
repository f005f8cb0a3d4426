"""Splits calls of tools out of the text of an answer, in the styles of the common templates. Pure.

`hermes`:  `text <tool_call>{…}</tool_call> <tool_call>{…}</tool_call>`
`mistral`: `text [TOOL_CALLS][{…}, {…}]`, or `text [TOOL_CALLS]name[ARGS]{…}[TOOL_CALLS]name{…}`
`llama`:   `{…}; {…}`, all of the text, perhaps behind `<|python_tag|>`; only with a known name,
           because an answer may be JSON as well.

What is marked as a call and is none stays text. A call whose name has been told cannot be taken
back: broken or cut off, its arguments are what there is. Blanks around calls belong to nobody.
"""

import re
from collections.abc import Callable, Sequence
from typing import Final

from app.output.call_scanner import CallScanner
from app.output.call_splitter import CallSplitter
from app.output.formats import JsonCallStyle
from app.output.json_value import JsonValue
from app.output.marks import doubtful_length, find_mark
from app.output.parts import OutputPart, TextPart

_OPENERS: Final[dict[JsonCallStyle, str]] = {
    "hermes": "<tool_call>",
    "mistral": "[TOOL_CALLS]",
    "llama": "<|python_tag|>",
}
_HERMES_END: Final = "</tool_call>"
_NAME: Final = re.compile(r"\s*([A-Za-z0-9_.-]{1,256})\s*(?:\[|$)")
_MAX_HEADER: Final = 512
_SEPARATORS: Final = " \t\r\n,;"


class ToolCallSplitter(CallSplitter):
    """A `CallSplitter` of calls that are JSON objects."""

    def __init__(
        self, style: JsonCallStyle, names: Sequence[str], call_id: Callable[[int], str]
    ) -> None:
        super().__init__(names, call_id)
        self._style = style
        self._opener = _OPENERS[style]
        self._scanner = CallScanner()
        self._arguments: JsonValue | None = None  # of a call whose name stood before them
        if style == "llama":
            self._look = self._at_start

    def finish(self) -> list[OutputPart]:
        """Return what was held back: no more text will come."""
        is_text = bool(self._taken) or not self._found.num_calls or self._look == self._in_text
        head = "" if self._scanner.name else self._scanner.head
        text = self._taken + head + self._held if is_text else ""
        self._held = self._taken = ""
        return [] if not text or (self._found.num_calls and not text.strip()) else [TextPart(text)]

    # Text

    def _in_text(self) -> bool:
        if self._say_until([self._opener]) is None:
            return False
        return self._look_with(self._in_call if self._style == "hermes" else self._behind_opener)

    def _in_plain_text(self) -> bool:
        self._found.say(self._held)
        self._held = ""
        return False

    # Llama: all of the text is calls, or none of it

    def _at_start(self) -> bool:
        text = self._held.lstrip()
        if self._opener.startswith(text) and text != self._opener:
            return False
        behind = text.removeprefix(self._opener)
        size = len(self._held) - len(behind)
        self._taken, self._held = self._held[:size], behind
        return self._look_with(self._in_call)

    def _between_calls(self) -> bool:
        """Behind a call of Llama's, and within Mistral's list."""
        self._held = self._held.lstrip(_SEPARATORS)
        if not self._held:
            return False
        if self._held.startswith("{"):
            return self._look_with(self._in_call)
        if self._style == "mistral":
            self._held = self._held.removeprefix("]")
            return self._look_with(self._in_text)
        return self._look_with(self._in_plain_text)

    # Mistral

    def _behind_opener(self) -> bool:
        text = self._held.lstrip()
        if text.startswith("["):
            self._taken += self._held[: len(self._held) - len(text) + 1]
            self._held = text[1:]
            return self._look_with(self._at_first_of_list)
        header, brace, _ = text.partition("{")
        if not brace and len(header) <= _MAX_HEADER:
            return False
        name = _NAME.match(header)
        if name is None:
            return self._take_back("")
        self._begin_call(name[1])
        self._arguments = JsonValue("{")
        self._found.add_arguments("{")
        self._held = text[len(header) + 1 :]
        return self._look_with(self._in_arguments)

    def _at_first_of_list(self) -> bool:
        text = self._held.lstrip()
        self._taken += self._held[: len(self._held) - len(text)]
        self._held = text
        return bool(text) and self._look_with(self._in_call)

    def _in_arguments(self) -> bool:
        assert self._arguments is not None
        for index, character in enumerate(self._held):
            self._arguments.push(character)
            if self._arguments.is_done:
                self._found.add_arguments(self._held[: index + 1])
                self._held = self._held[index + 1 :]
                return self._look_with(self._in_text)
        self._found.add_arguments(self._held)
        self._held = ""
        return False

    # Calls

    def _in_call(self) -> bool:
        scanner = self._scanner
        delta, num_taken = scanner.push(self._held)
        self._held = self._held[num_taken:]
        is_strange = self._style == "llama" and scanner.name not in self._names
        if (scanner.is_broken and not scanner.name) or (delta.name and is_strange):
            return self._take_back(scanner.head)
        if delta.name:
            self._begin_call(delta.name)
        self._found.add_arguments(delta.arguments)
        if scanner.is_broken or scanner.is_done:
            self._scanner = CallScanner()
            return self._look_with(self._behind_call if scanner.is_done else self._in_rubble)
        return True

    def _begin_call(self, name: str) -> None:
        self._taken = ""
        self._found.begin_call(name)

    def _take_back(self, head: str) -> bool:
        """It was no call: what marked it as one is text, and `head` is looked at once more."""
        self._found.say(self._taken)
        self._taken, self._held, self._scanner = "", head + self._held, CallScanner()
        is_llama = self._style == "llama"
        return self._look_with(self._in_plain_text if is_llama else self._in_text)

    def _behind_call(self) -> bool:
        if self._style != "hermes":
            return self._look_with(self._between_calls)
        text = self._held.lstrip()
        if _HERMES_END.startswith(text) and text != _HERMES_END:
            return False
        self._held = text.removeprefix(_HERMES_END)
        return self._look_with(self._in_text)

    def _in_rubble(self) -> bool:
        """Behind a call that broke off: nothing is of use until the next one may begin."""
        marks = [_HERMES_END, self._opener] if self._style == "hermes" else [self._opener]
        found = find_mark(self._held, marks)
        if found is None:
            size = doubtful_length(self._held, marks)
            self._held = self._held[len(self._held) - size :]
            return False
        self._held = (found.mark if found.mark == self._opener else "") + found.behind
        return self._look_with(self._in_text)
