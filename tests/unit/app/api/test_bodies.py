"""Bodies that do not fit, in one sentence."""

from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field, field_validator

from app.api.bodies import validate
from app.errors import BadRequestError


class Fields(BaseModel):
    """One field of each kind that bodies have."""

    name: Annotated[str, Field(max_length=3)] = ""
    names: Annotated[list[str], Field(min_length=1, max_length=2)] = ["a"]
    count: int = 0
    even: int = 0

    @field_validator("even")
    @classmethod
    def _check_even(cls, value: int) -> int:
        if value % 2:
            raise ValueError("expected an even number")
        return value


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"name": "abcd"}, "name: should have at most 3 characters, got 'abcd'"),
        ({"names": []}, "names: expected at least 1, got 0"),
        ({"names": ["a", "b", "c"]}, "names: expected at most 2, got 3"),
        ({"names": ["a", 5]}, "names.1: should be a valid string, got 5"),
        ({"count": {}}, "count: should be a valid integer, got an object"),
        ({"even": 3}, "even: expected an even number"),
    ],
)
def test_the_sentence_names_the_field_what_was_expected_and_what_came(
    body: dict[str, Any], sentence: str
) -> None:
    """Without pydantic's words for its own forms."""
    with pytest.raises(BadRequestError) as caught:
        validate(Fields, body)

    assert str(caught.value) == sentence
