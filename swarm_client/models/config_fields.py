"""Fields of config.json and generation_config.json, checked. The files are input from outside."""

from collections.abc import Mapping
from typing import Any

from swarm_protocol.checkpoint import Checkpoint
from swarm_protocol.errors import CheckpointError

_MAX_SIZE = 1 << 31


def text_config(checkpoint: Checkpoint) -> Mapping[str, Any]:
    """Return the fields of config.json that describe the language model.

    A model that also sees or hears keeps them in `text_config`; what that lacks is outside.
    """
    config = checkpoint.config
    nested = config.get("text_config")
    if not isinstance(nested, dict):
        return config
    return {name: value for name, value in config.items() if not name.endswith("_config")} | nested


def read_positive_int(checkpoint: Checkpoint, *fields: str, default: int | None = None) -> int:
    """Return a size from config.json.

    Args:
        checkpoint: opened.
        fields: the names it goes by; the first that is there counts.
        default: when none is there.

    Raises:
        CheckpointError: it is missing without a default, not a whole number, or absurd.
    """
    value = _first(checkpoint, fields, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < _MAX_SIZE:
        raise _bad_field(checkpoint, fields[0], "a positive whole number", value)
    return value


def read_positive_number(checkpoint: Checkpoint, field: str, *, default: float) -> float:
    """Return a number from config.json.

    Raises:
        CheckpointError: it is not a positive number.
    """
    value = _first(checkpoint, (field,), default)
    if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
        raise _bad_field(checkpoint, field, "a positive number", value)
    return float(value)


def read_flag(checkpoint: Checkpoint, field: str, *, default: bool) -> bool:
    """Return a boolean from config.json.

    Raises:
        CheckpointError: it is something else.
    """
    value = _first(checkpoint, (field,), default)
    if not isinstance(value, bool):
        raise _bad_field(checkpoint, field, "true or false", value)
    return value


def read_optional_token_id(checkpoint: Checkpoint, field: str) -> int | None:
    """Return a token id from config.json; of a list, the first one."""
    ids = _token_ids(text_config(checkpoint).get(field))
    return ids[0] if ids else None


def read_eos_token_ids(checkpoint: Checkpoint) -> tuple[int, ...]:
    """Return the ids that end a generation: generation_config.json's, else config.json's."""
    generation = checkpoint.read_json("generation_config.json") or {}
    return _token_ids(generation.get("eos_token_id")) or _token_ids(
        text_config(checkpoint).get("eos_token_id")
    )


def _first(checkpoint: Checkpoint, fields: tuple[str, ...], default: object) -> object:
    config = text_config(checkpoint)
    found = (config[field] for field in fields if config.get(field) is not None)
    return next(found, default)


def _bad_field(checkpoint: Checkpoint, field: str, expected: str, value: object) -> CheckpointError:
    return CheckpointError(
        f"config.json of {checkpoint.source!r}: {field} must be {expected}, got {value!r:.40}"
    )


def _token_ids(value: object) -> tuple[int, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(v for v in values if isinstance(v, int) and not isinstance(v, bool) and v >= 0)
