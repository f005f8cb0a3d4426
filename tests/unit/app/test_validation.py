"""What pydantic finds wrong, in our words."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, ValidationError, field_validator

from app.validation import kind_of, sentence_of


class Inner(BaseModel):
    """A class whose name nobody should read."""


class Fields(BaseModel):
    """One field of each kind that bodies, settings and options have."""

    name: Annotated[str, Field(max_length=3)] = ""
    names: Annotated[list[str], Field(min_length=1, max_length=2)] = ["a"]
    pair: tuple[str, ...] = ()
    count: Annotated[int, Field(ge=0)] = 0
    share: float = 0
    is_on: bool = False
    form: Literal["json", "console", "none"] = "json"
    even: int = 0
    inner: Inner = Inner()
    table: dict[str, int] = {}
    stop: str | list[str] = ""

    @field_validator("even")
    @classmethod
    def _check_even(cls, value: int) -> int:
        if value % 2:
            raise ValueError("expected an even number")
        return value


def _sentence(values: dict[str, Any], *, has_input: bool = True) -> str:
    with pytest.raises(ValidationError) as caught:
        Fields.model_validate(values)
    return sentence_of(caught.value.errors(include_input=has_input)[0])


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"name": "abcd"}, "should have at most 3 characters, got 'abcd'"),
        ({"names": []}, "expected at least 1, got 0"),
        ({"names": ["a", "b", "c"]}, "expected at most 2, got 3"),
        ({"names": 5}, "expected a list, got 5"),
        ({"pair": "a"}, "expected a list, got 'a'"),
        ({"count": -1}, "should be greater than or equal to 0, got -1"),
        ({"count": "many"}, "expected an integer, got 'many'"),
        ({"count": 1.5}, "expected an integer, got 1.5"),
        ({"count": None}, "expected an integer, got null"),
        ({"name": True}, "expected a text, got true"),
        ({"share": "half"}, "expected a number, got 'half'"),
        ({"is_on": "perhaps"}, "expected true or false, got 'perhaps'"),
        ({"form": "xml"}, "should be 'json', 'console' or 'none', got 'xml'"),
        ({"even": 3}, "expected an even number"),
        ({"inner": 3}, "expected an object, got 3"),
        ({"table": []}, "expected an object, got a list"),
    ],
)
def test_the_sentence_says_what_was_expected_and_what_came(
    values: dict[str, Any], sentence: str
) -> None:
    """Without pydantic's words for its own forms, and without names of classes."""
    assert _sentence(values) == sentence


def test_every_form_that_would_do_is_named() -> None:
    """Each has a problem of its own."""
    with pytest.raises(ValidationError) as caught:
        Fields.model_validate({"stop": 5})

    assert sentence_of(*caught.value.errors()) == "expected a text or a list, got 5"


def test_long_values_are_shortened() -> None:
    """A prompt in the wrong place does not come back whole."""
    assert _sentence({"count": "x" * 1000}).endswith(f"got '{'x' * 39}")


def test_values_that_were_kept_out_stay_out() -> None:
    """A setting may be a secret."""
    assert _sentence({"name": "secret"}, has_input=False) == "should have at most 3 characters"


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ([], "a list"),
        ({}, "an object"),
        ("", "a text"),
        (None, "null"),
        (1, "a number"),
        (True, "a boolean"),
    ],
)
def test_kinds_have_the_names_of_json(value: object, kind: str) -> None:
    """Callers may not know Python."""
    assert kind_of(value) == kind
