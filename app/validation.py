"""What pydantic finds wrong, in our words: what was expected, and what came.

Bodies, settings and options of commands say it alike; each of them names the place in its own way.
"""

import re
from typing import Final

from pydantic_core import ErrorDetails

_SUBJECT: Final = re.compile(r"^(?:Input|String) should")
_KINDS: Final = {
    "string_type": "a text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "int_type": "an integer",
    "int_parsing": "an integer",
    "int_parsing_size": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "float_parsing": "a number",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
}
"""Type of a problem to the kind of value that was expected."""


def sentence_of(problem: ErrorDetails, *others: ErrorDetails) -> str:
    """Return what was expected and what came.

    A problem of `errors(include_input=False)` is told without what came: a setting may be a secret.

    Args:
        others: problems of the same value, of further forms that it might have had.
    """
    bounds = problem.get("ctx", {})
    match problem["type"]:
        case "missing":
            return "expected a value, got nothing"
        case "value_error":
            return problem["msg"].removeprefix("Value error, ")
        case "too_short":
            return f"expected at least {bounds['min_length']}, got {bounds['actual_length']}"
        case "too_long":
            return f"expected at most {bounds['max_length']}, got {bounds['actual_length']}"
        case kind if kind in _KINDS:
            kinds = dict.fromkeys(_KINDS.get(each["type"]) for each in (problem, *others))
            expected = f"expected {' or '.join(filter(None, kinds))}"
        case _:
            expected = _SUBJECT.sub("should", problem["msg"])
    return f"{expected}, got {_shown(problem['input'])}" if "input" in problem else expected


def kind_of(value: object) -> str:
    """Return what a value of JSON is, e.g. `a list`."""
    kinds = {bool: "a boolean", dict: "an object", list: "a list", str: "a text"}
    return "null" if value is None else kinds.get(type(value), "a number")


def _shown(value: object) -> str:
    """Return a short form of a value; structures by their kind only."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value!r:.40}" if isinstance(value, int | float | str) else kind_of(value)
