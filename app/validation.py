"""What pydantic finds wrong, in our words: what was expected, and what came.

Bodies, settings and options of commands say it alike; each of them names the place in its own way.
"""

import re
from typing import Final

from pydantic_core import ErrorDetails

_SUBJECT: Final = re.compile(r"^(?:Input|String) should")
_ASIDES: Final = ("_parsing", "_from_float")
"""Types of problems whose message says after a comma what `got …` says better."""


def sentence_of(problem: ErrorDetails) -> str:
    """Return what was expected and what came.

    A problem of `errors(include_input=False)` is told without what came: a setting may be a secret.
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
    expected = _expected(problem)
    return f"{expected}, got {_shown(problem['input'])}" if "input" in problem else expected


def kind_of(value: object) -> str:
    """Return what a value of JSON is, e.g. `a list`."""
    kinds = {bool: "a boolean", dict: "an object", list: "a list", str: "a text"}
    return "null" if value is None else kinds.get(type(value), "a number")


def _expected(problem: ErrorDetails) -> str:
    """Return the first half of the sentence, without names of Python's types and of our classes."""
    match problem["type"]:
        case "dict_type" | "model_type" | "model_attributes_type":
            return "expected an object"
        case "list_type" | "tuple_type":
            return "expected a list"
    expected = _SUBJECT.sub("should", problem["msg"])
    return expected.partition(", ")[0] if problem["type"].endswith(_ASIDES) else expected


def _shown(value: object) -> str:
    """Return a short form of a value; structures by their kind only."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value!r:.40}" if isinstance(value, int | float | str) else kind_of(value)
