import json
from typing import Literal

import pytest

from app.inference.requests import OutputConstraint
from app.structured.errors import GrammarTooLargeError, InvalidGrammarError
from app.structured.limits import GrammarLimits, check_constraint

LIMITS = GrammarLimits(max_bytes=1000, max_pattern_bytes=100, max_depth=8, max_parts=50)


def nested(depth: int) -> str:
    return '{"items":' * depth + "{}" + "}" * depth


@pytest.mark.parametrize(
    ("kind", "text", "sentence"),
    [
        ("json_schema", json.dumps({"title": "x" * 1000}), "at most 1000 bytes"),
        ("json_schema", json.dumps({"title": "é" * 600}, ensure_ascii=False), "at most 1000 bytes"),
        ("json_schema", nested(8), "at most 8 levels deep"),
        ("json_schema", json.dumps({"enum": [0] * 60}), "at most 50 values"),
        ("regex", "a" * 101, "at most 100 bytes"),
        ("grammar", "a" * 1001, "at most 1000 bytes"),
        ("choice", json.dumps(["a"] * 51), "at most 50 choices"),
    ],
)
def test_what_is_over_a_bound_is_refused(
    kind: Literal["json_schema", "regex", "grammar", "choice"], text: str, sentence: str
) -> None:
    """The sentence names the bound."""
    with pytest.raises(GrammarTooLargeError, match=sentence):
        check_constraint(OutputConstraint(kind, text), LIMITS)


def test_nesting_that_exhausts_the_parser_is_too_deep() -> None:
    """Python's own JSON parser is recursive."""
    with pytest.raises(GrammarTooLargeError):
        check_constraint(OutputConstraint("json_schema", "[" * 60_000), GrammarLimits())


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("json_schema", "{"),
        ("json_schema", "[]"),
        ("json_schema", '{"const": "\ud800"}'),
        ("choice", "[]"),
        ("choice", '["a", 1]'),
        ("choice", '[""]'),
        ("regex", ""),
        ("regex", "a\0"),
        ("grammar", " \n"),
    ],
)
def test_what_is_not_of_its_kind_is_refused(
    kind: Literal["json_schema", "regex", "grammar", "choice"], text: str
) -> None:
    """Before anybody compiles it."""
    with pytest.raises(InvalidGrammarError):
        check_constraint(OutputConstraint(kind, text), LIMITS)


@pytest.mark.parametrize("text", [nested(7), json.dumps({"enum": [0] * 40})])
def test_what_is_within_the_bounds_passes(text: str) -> None:
    """The bounds themselves are within."""
    check_constraint(OutputConstraint("json_schema", text), LIMITS)
