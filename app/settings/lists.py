"""Lists in environment variables: JSON, or items with commas between them."""

import json
from typing import Annotated

from pydantic import BeforeValidator, SecretStr
from pydantic_settings import NoDecode


def _split(value: object) -> object:
    """Return the items of a list written as JSON or with commas; other things as they are."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except ValueError as error:
            raise ValueError(
                "expected a list as JSON, or items with commas between them"
            ) from error
    return [item.strip() for item in value.split(",") if item.strip()]


Texts = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Secrets = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_split)]
