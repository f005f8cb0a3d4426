"""Reading config.json field by field; every fault names the field."""

from collections.abc import Mapping, Sequence
from typing import Any

from swarm_protocol.errors import CheckpointError
from swarm_server.engine.feed_forward import ACTIVATIONS, Activation


def read_count(
    config: Mapping[str, Any], name: str, default: int | None = None, *, least: int = 1
) -> int:
    """Return a whole number that is at least `least`; absent and null mean `default`.

    Raises:
        CheckpointError: it is missing without a default, or is no such number.
    """
    value = config.get(name)
    if value is None:
        value = default
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        bound = "positive number" if least == 1 else f"number from {least} on"
        raise CheckpointError(f"config.json: {name} must be a {bound}, got {value!r:.40}")
    return value


def read_renamed_count(config: Mapping[str, Any], *names: str) -> int:
    """Return a positive whole number under the first name that the config has.

    Raises:
        CheckpointError: it has none, or it is not a positive whole number.
    """
    return read_count(config, next((name for name in names if config.get(name)), names[0]))


def read_number(config: Mapping[str, Any], name: str, default: float | None = None) -> float:
    """Return a positive number; absent and null mean `default`. Raises as `read_count` does."""
    value = config.get(name)
    if value is None:
        value = default
    if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
        raise CheckpointError(f"config.json: {name} must be a positive number, got {value!r:.40}")
    return float(value)


def read_flag(config: Mapping[str, Any], name: str, *, default: bool = False) -> bool:
    """Return a boolean; absent and null mean `default`.

    Raises:
        CheckpointError: it is something else.
    """
    value = config.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise CheckpointError(f"config.json: {name} must be true or false, got {value!r:.40}")
    return value


def read_activation(config: Mapping[str, Any], name: str, default: str) -> Activation:
    """Return the function that a field names; absent and null mean `default`.

    Raises:
        CheckpointError: the engine has no such function.
    """
    value = config.get(name) or default
    if not isinstance(value, str) or value not in ACTIVATIONS:
        raise CheckpointError(
            f"config.json: {name} {value!r:.40} is not served; served: {', '.join(ACTIVATIONS)}"
        )
    return ACTIVATIONS[value]


def read_window(config: Mapping[str, Any], default: int | None = None) -> int | None:
    """Return `sliding_window` in tokens; null means none, absent means `default`.

    Raises:
        CheckpointError: it is something else than a positive whole number or null.
    """
    if config.get("sliding_window", default) is None:
        return None
    return read_count(config, "sliding_window", default)


def read_sliding_blocks(config: Mapping[str, Any], default: Sequence[bool]) -> Sequence[bool]:
    """Return for each block whether it looks through the window; `layer_types` absent: `default`.

    Raises:
        CheckpointError: another kind of attention, or not one for each of the model's blocks.
    """
    types = config.get("layer_types")
    if types is None:
        return default
    if not isinstance(types, list) or len(types) != len(default):
        raise CheckpointError(f"config.json: layer_types must name {len(default)} blocks")
    for kind in types:
        if kind not in ("sliding_attention", "full_attention"):
            raise CheckpointError(f"config.json: layer type {kind!r:.40} is not served")
    return [kind == "sliding_attention" for kind in types]
