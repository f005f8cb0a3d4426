"""Splits calls of tools written in tags out of the text of an answer. Pure.

    <tool_call>
    <function=get_weather>
    <parameter=city>
    Ulm
    </parameter>
    </function>
    </tool_call>

Source: the chat template of Qwen3-Coder. A value is text between the tags, one line break at
either end aside; what it is in JSON, the tool's schema says. Texts are passed on as they come,
other values when they are complete.

The outer tag may be missing, for those models forget it. A call with an unknown name is text. One
that has been told cannot be taken back: cut off, its arguments are what there is; what stands
between its parameters is of no use.
"""

import json
from collections.abc import Callable, Sequence
from typing import Final

from app.output.call_splitter import CallSplitter
from app.output.formats import TextParameter
from app.output.marks import doubtful_length, find_mark
from app.output.parts import OutputPart

_OUTER: Final = "<tool_call>"
_FUNCTION: Final = "<function="
_PARAMETER: Final = "<parameter="
_VALUE_END: Final = "</parameter>"
_FUNCTION_END: Final = "</function>"
_OUTER_END: Final = "</tool_call>"
_MAX_NAME: Final = 256
_WORDS: Final = {"True": "true", "False": "false", "None": "null"}


class TaggedCallSplitter(CallSplitter):
    """A `CallSplitter` of calls in tags.

    Args:
        names, call_id: see there.
        text_parameters: those whose values are texts, whatever they look like.
    """

    def __init__(
        self,
        names: Sequence[str],
        text_parameters: Sequence[TextParameter],
        call_id: Callable[[int], str],
    ) -> None:
        super().__init__(names, call_id)
        self._is_nullable = {(each.tool, each.name): each.is_nullable for each in text_parameters}
        self._tool = ""
        self._separator = "{"  # in front of the next parameter
        self._may_be_null = False

    def finish(self) -> list[OutputPart]:
        """Return what was held back: no more text will come."""
        if self._look in (self._in_text, self._at_function, self._in_name):
            rest = self._taken + self._held
            self._found.say(rest if rest.strip() or not self._found.num_calls else "")
        elif self._look == self._in_text_value:
            self._found.add_arguments(_escaped(self._held))
        self._held = self._taken = ""
        return self._found.take()

    # Text

    def _in_text(self) -> bool:
        mark = self._say_until([_OUTER, _FUNCTION])
        if mark is None:
            return False
        return self._look_with(self._at_function if mark == _OUTER else self._in_name)

    def _at_function(self) -> bool:
        text = self._held.lstrip()
        if _begins(text, _FUNCTION):
            return False
        if not text.startswith(_FUNCTION):
            return self._take_back()
        self._taken += self._held[: len(self._held) - len(text)] + _FUNCTION
        self._held = text.removeprefix(_FUNCTION)
        return self._look_with(self._in_name)

    def _in_name(self) -> bool:
        name, end, behind = self._held.partition(">")
        if not end and len(name) <= _MAX_NAME:
            return False
        if name.strip() not in self._names:
            return self._take_back()
        self._tool, self._taken, self._held = name.strip(), "", behind
        self._found.begin_call(self._tool)
        self._separator = "{"
        return self._look_with(self._between_parameters)

    def _take_back(self) -> bool:
        """It was no call: what marked it as one is text."""
        self._found.say(self._taken)
        self._taken = ""
        return self._look_with(self._in_text)

    # Calls

    def _between_parameters(self) -> bool:
        marks = [_PARAMETER, _FUNCTION_END, _OUTER_END]
        found = find_mark(self._held, marks)
        if found is None:
            self._held = self._held[len(self._held) - doubtful_length(self._held, marks) :]
            return False
        self._held = found.behind
        if found.mark == _PARAMETER:
            return self._look_with(self._in_parameter_name)
        self._found.add_arguments("{}" if self._separator == "{" else "}")
        is_over = found.mark == _OUTER_END
        return self._look_with(self._in_text if is_over else self._behind_function)

    def _in_parameter_name(self) -> bool:
        name, end, behind = self._held.partition(">")
        if not end:
            return False
        key = (self._tool, name.strip())
        self._held = behind
        self._found.add_arguments(f"{self._separator}{json.dumps(key[1])}: ")
        self._separator = ", "
        self._may_be_null = self._is_nullable.get(key, False)
        is_text = key in self._is_nullable
        return self._look_with(self._at_text_value if is_text else self._in_json_value)

    def _at_text_value(self) -> bool:
        """Wait for what decides whether the value is a text: null may be one of its values."""
        text = self._held.removeprefix("\n")
        rest = text.removeprefix("null").removeprefix("\n")
        if self._may_be_null and rest.startswith(_VALUE_END) and text.startswith("null"):
            return self._look_with(self._in_json_value)
        if self._may_be_null and ("null".startswith(text) or _begins(rest, _VALUE_END)):
            return False
        self._held = text
        self._found.add_arguments('"')
        return self._look_with(self._in_text_value)

    def _in_text_value(self) -> bool:
        found = find_mark(self._held, [_VALUE_END])
        if found is not None:
            self._found.add_arguments(_escaped(found.before.removesuffix("\n")) + '"')
            self._held = found.behind
            return self._look_with(self._between_parameters)
        size = doubtful_length(self._held, ["\n" + _VALUE_END, _VALUE_END])
        end = len(self._held) - size
        self._found.add_arguments(_escaped(self._held[:end]))
        self._held = self._held[end:]
        return False

    def _in_json_value(self) -> bool:
        found = find_mark(self._held, [_VALUE_END])
        if found is None:
            return False
        self._found.add_arguments(_as_json(found.before))
        self._held = found.behind
        return self._look_with(self._between_parameters)

    def _behind_function(self) -> bool:
        text = self._held.lstrip()
        if _begins(text, _OUTER_END):
            return False
        self._held = text.removeprefix(_OUTER_END) if text.startswith(_OUTER_END) else self._held
        return self._look_with(self._in_text)


def _begins(text: str, mark: str) -> bool:
    """Tell whether a text may become the mark, and is not yet."""
    return text != mark and mark.startswith(text)


def _escaped(text: str) -> str:
    """Return a piece of a text as it stands within a JSON string."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _as_json(text: str) -> str:
    """Return a value as JSON: what is none is a text, but for Python's words."""
    value = text.strip()
    try:
        json.loads(value, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return _WORDS.get(value) or json.dumps(
            text.removeprefix("\n").removesuffix("\n"), ensure_ascii=False
        )
    return value


def _refuse(word: str) -> object:
    """Python's parser takes NaN and Infinity, which are not JSON."""
    raise ValueError(word)
