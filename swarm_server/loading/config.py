"""Reading config.json field by field; every fault names the field."""

from collections.abc import Mapping
from typing import Any

from swarm_protocol.errors import CheckpointError


def read_count(config: Mapping[str, Any], name: str, default: int | None = None) -> int:
    """Return a positive whole number; absent and null mean `default`.

    Raises:
        CheckpointError: it is missing without a default, or is not a positive whole number.
    """
    value = config.get(name)
    if value is None:
        value = default
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise CheckpointError(f"config.json: {name} must be a positive number, got {value!r:.40}")
    return value


def read_number(config: Mapping[str, Any], name: str, default: float | None = None) -> float:
    """Return a positive number; absent and null mean `default`. Raises as `read_count` does."""
    value = config.get(name)
    if value is None:
        value = default
    if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
        raise CheckpointError(f"config.json: {name} must be a positive number, got {value!r:.40}")
    return float(value)


def read_flag(config: Mapping[str, Any], name: str) -> bool:
    """Return a boolean; absent and null mean False.

    Raises:
        CheckpointError: it is something else.
    """
    value = config.get(name)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise CheckpointError(f"config.json: {name} must be true or false, got {value!r:.40}")
    return value
