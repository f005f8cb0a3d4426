"""Bodies that do not fit, in one sentence."""

from typing import Any

import pytest
from pydantic import BaseModel

from app.api.bodies import parse_json_object, validate
from app.errors import BadRequestError


class Item(BaseModel):
    """What a list holds in one of its two forms."""

    size: int


class Fields(BaseModel):
    """Fields that are reached in different ways."""

    names: list[str] = []
    items: list[Item | str] = []
    count: int


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({}, "count: expected a value, got nothing"),
        ({"count": {}}, "count: expected an integer, got an object"),
        ({"count": 1, "names": ["a", 5]}, "names.1: expected a text, got 5"),
        ({"count": 1, "items": [5]}, "items.0: expected an object or a text, got 5"),
        ({"count": 1, "items": [{"size": "x"}]}, "items.0.size: expected an integer"),
    ],
)
def test_the_sentence_names_the_field_as_the_caller_wrote_it(
    body: dict[str, Any], sentence: str
) -> None:
    """Without pydantic's names for the forms that it might have had."""
    with pytest.raises(BadRequestError) as caught:
        validate(Fields, body)

    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "expected a JSON object, got nothing"),
        (b"{", "broken JSON: .* at character 1"),
        (b"[]", "expected a JSON object, got a list"),
        (b"true", "expected a JSON object, got a boolean"),
    ],
)
def test_body_that_is_no_object_is_refused(data: bytes, sentence: str) -> None:
    """In words of JSON."""
    with pytest.raises(BadRequestError, match=sentence):
        parse_json_object(data)
