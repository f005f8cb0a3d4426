"""Bounds of what callers may constrain output with, and the first look at it. Pure.

Everything here is cheap and runs before a grammar is handed to anybody else.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from app.inference.requests import OutputConstraint
from app.structured.errors import GrammarTooLargeError, InvalidGrammarError


@dataclass(frozen=True, slots=True, kw_only=True)
class GrammarLimits:
    """Bounds of one constraint, and of the compiled ones together.

    Attributes:
        max_bytes: of a schema, of a grammar, or of all choices.
        max_pattern_bytes: of a regular expression.
        max_depth: of objects and lists within a schema.
        max_parts: values within a schema, or choices.
        compile_s: time for the trial of one grammar.
        compile_bytes: memory that the trial of one grammar may add.
        max_waiting: trials that wait for their turn.
        max_kept: compiled grammars, and refusals, that are kept.
        max_kept_bytes: of the texts of those.
    """

    max_bytes: int = 64 * 1024
    max_pattern_bytes: int = 8 * 1024
    max_depth: int = 64
    max_parts: int = 10_000
    compile_s: float = 2.0
    compile_bytes: int = 512 * 1024 * 1024
    max_waiting: int = 64
    max_kept: int = 128
    max_kept_bytes: int = 2 * 1024 * 1024


def check_constraint(constraint: OutputConstraint, limits: GrammarLimits) -> None:
    """Refuse what is too large, or not even JSON where it must be.

    Raises:
        GrammarTooLargeError, InvalidGrammarError: see the classes.
    """
    is_pattern = constraint.kind == "regex"
    max_bytes = limits.max_pattern_bytes if is_pattern else limits.max_bytes
    if (
        len(constraint.text) > max_bytes
        or len(constraint.text.encode(errors="replace")) > max_bytes
    ):
        raise GrammarTooLargeError(f"a {constraint.kind} may have at most {max_bytes} bytes")
    if "\0" in constraint.text or not _is_unicode(constraint.text):
        raise InvalidGrammarError(f"the {constraint.kind} has characters that no text may have")
    match constraint.kind:
        case "json_schema":
            _check_schema(_parse(constraint), limits)
        case "choice":
            _check_choices(_parse(constraint), limits)
        case "regex" | "grammar":
            if not constraint.text.strip():
                raise InvalidGrammarError(f"the {constraint.kind} is empty")
        case "json_object":
            pass


def _is_unicode(text: str) -> bool:
    """Half a surrogate pair is possible in JSON, and in no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _parse(constraint: OutputConstraint) -> object:
    try:
        value: object = json.loads(constraint.text)
    except RecursionError as error:
        raise GrammarTooLargeError("the schema is too deep") from error
    except ValueError as error:
        raise InvalidGrammarError(f"the {constraint.kind} is not JSON") from error
    return value


def _check_schema(schema: object, limits: GrammarLimits) -> None:
    if not isinstance(schema, dict):
        raise InvalidGrammarError("expected the schema to be a JSON object")
    for num_parts, depth in enumerate(_depths(schema), 1):
        if depth > limits.max_depth:
            raise GrammarTooLargeError(f"a schema may be at most {limits.max_depth} levels deep")
        if num_parts > limits.max_parts:
            raise GrammarTooLargeError(f"a schema may have at most {limits.max_parts} values")


def _depths(value: object) -> Iterator[int]:
    """Yield the depth of each value within a value, itself at 1; without recursion."""
    pending = [(value, 1)]
    while pending:
        item, depth = pending.pop()
        yield depth
        if isinstance(item, dict):
            pending.extend((child, depth + 1) for child in item.values())
        elif isinstance(item, list):
            pending.extend((child, depth + 1) for child in item)


def _check_choices(choices: object, limits: GrammarLimits) -> None:
    if not isinstance(choices, list) or not choices:
        raise InvalidGrammarError("expected the choices to be a list of texts")
    if len(choices) > limits.max_parts:
        raise GrammarTooLargeError(f"there may be at most {limits.max_parts} choices")
    if not all(isinstance(choice, str) and choice for choice in choices):
        raise InvalidGrammarError("expected each choice to be a text, and not an empty one")
