"""From bytes and pydantic's findings to values, and to one sentence when they do not fit."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from starlette.types import Receive

from app.admission import CallerLeftError
from app.errors import BadRequestError
from app.validation import kind_of, sentence_of

_OF_FIELDS: Final = ("missing", "value_error")
"""Problems of a field, which need not be there."""

Model = TypeVar("Model", bound=BaseModel)


async def read_body(receive: Receive) -> bytes:
    """Return the whole body.

    Raises:
        CallerLeftError: the caller went away in the middle.
        BodyTooLargeError: from `BodyLimit`.
    """
    chunks = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise CallerLeftError
        chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(chunks)


def parse_json_object(data: bytes | str) -> dict[str, Any]:
    """Return a JSON object; its values are checked by `validate`.

    Raises:
        BadRequestError: broken JSON, or not an object.
    """
    if not data:
        raise BadRequestError("expected a JSON object, got nothing")
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise BadRequestError(f"broken JSON: {error.msg} at character {error.pos}") from error
    if not isinstance(value, dict):
        raise BadRequestError(f"expected a JSON object, got {kind_of(value)}")
    return value


def validate(model: type[Model], values: Mapping[str, Any]) -> Model:
    """Return `values` as a `model`.

    Raises:
        BadRequestError: the sentence names the first field that does not fit, what was expected
            there and what came.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        field = _field(values, problems[0])
        said = sentence_of(*(each for each in problems if _field(values, each) == field))
        raise BadRequestError(f"{field}: {said}" if field else said, field or None) from error


def _field(values: Mapping[str, Any], problem: ErrorDetails) -> str:
    """Return the way to a value, e.g. `messages.0.role`."""
    return ".".join(_steps(values, problem["loc"], ends_missing=problem["type"] in _OF_FIELDS))


def _steps(
    values: Mapping[str, Any], location: Sequence[int | str], *, ends_missing: bool
) -> Iterator[str]:
    """Yield its steps, without pydantic's names for the forms that the value might have had."""
    place: Any = values
    for index, step in enumerate(location):
        is_key = isinstance(place, Mapping) and step in place
        if is_key or (isinstance(place, list) and step in range(len(place))):
            place = place[step]
            yield str(step)
        elif ends_missing and index == len(location) - 1:
            yield str(step)
