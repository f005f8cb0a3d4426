"""Rotary parameters in config.json, in both forms that transformers has written.

New: `rope_parameters` holds `rope_type`, `rope_theta` and the scaling's numbers.
Old: `rope_theta` beside `rope_scaling`, which holds `type` or `rope_type`, or is null.
"""

from collections.abc import Mapping
from typing import Any

from swarm_protocol.errors import CheckpointError
from swarm_server.engine.rope import LinearScaling, Llama3Scaling, Rope
from swarm_server.loading.config import read_count, read_number


def read_rope(config: Mapping[str, Any], default_theta: float = 10000.0) -> Rope:
    """Return the rotary parameters of a model; `default_theta` is the family's.

    Raises:
        CheckpointError: a kind of scaling that is not default, linear or llama3, or bad numbers.
    """
    scaling = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(scaling, Mapping):
        raise CheckpointError("config.json: rope_parameters must be an object")
    theta = read_number(scaling, "rope_theta", read_number(config, "rope_theta", default_theta))
    for holder in (config, scaling):
        if read_number(holder, "partial_rotary_factor", 1.0) != 1.0:
            raise CheckpointError("config.json: partial_rotary_factor other than 1 is not served")
    return Rope(theta, _read_scaling(config, scaling))


def _read_scaling(
    config: Mapping[str, Any], scaling: Mapping[str, Any]
) -> Llama3Scaling | LinearScaling | None:
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind == "default":
        return None
    if kind == "linear":
        return LinearScaling(read_number(scaling, "factor"))
    if kind != "llama3":
        raise CheckpointError(
            f"config.json: rope type {kind!r:.40} is not served; served: default, linear, llama3"
        )
    low = read_number(scaling, "low_freq_factor")
    high = read_number(scaling, "high_freq_factor")
    if not low < high:
        raise CheckpointError("config.json: low_freq_factor must be below high_freq_factor")
    original = read_count(
        scaling,
        "original_max_position_embeddings",
        read_count(config, "max_position_embeddings", 2048),
    )
    return Llama3Scaling(read_number(scaling, "factor"), low, high, original)
