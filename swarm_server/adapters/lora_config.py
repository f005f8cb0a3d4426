"""adapter_config.json of a LoRA adapter, as PEFT writes it: what it adapts, and how strongly."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite, sqrt
from typing import Any, Final, TypeAlias

from swarm_server.errors import AdapterError

CONFIG_FILE: Final = "adapter_config.json"

_NOT_SERVED: Final = (
    "alora_invocation_tokens",
    "alpha_pattern",
    "layer_replication",
    "lora_bias",
    "modules_to_save",
    "rank_pattern",
    "target_parameters",
    "trainable_token_indices",
    "use_dora",
    "use_qalora",
)
"""Fields that change the computation in ways we do not follow; absent, null, false or empty."""

_PLAIN_STARTS: Final = (None, True, False, "gaussian", "orthogonal", "eva")
"""Values of `init_lora_weights` that leave the base weights alone; others, as `pissa`, do not."""

Names: TypeAlias = str | tuple[str, ...]
"""A regular expression for whole paths, or ends of paths."""


@dataclass(frozen=True, slots=True)
class LoraConfig:
    """What an adapter applies to, and the factor of its products."""

    rank: int
    scale: float
    target_modules: Names
    exclude_modules: Names = ()
    blocks: frozenset[int] | None = None

    @classmethod
    def parse(cls, adapter: str, config: Mapping[str, Any]) -> "LoraConfig":
        """Return the checked config.

        Raises:
            AdapterError: not LoRA, a variant of it that is not served, or a bad field.
        """
        kind = config.get("peft_type")
        if kind != "LORA":
            raise _fault(adapter, "peft_type", "LORA", kind)
        if config.get("bias", "none") != "none":
            raise _fault(adapter, "bias", "none: biases of adapters are not served", config["bias"])
        for field in _NOT_SERVED:
            if config.get(field):
                raise AdapterError(adapter, f"{CONFIG_FILE}: {field} is not served")
        start = config.get("init_lora_weights")
        if start not in _PLAIN_STARTS:
            raise _fault(adapter, "init_lora_weights", "one that keeps the base weights", start)
        rank = config.get("r")
        if type(rank) is not int or rank < 1:
            raise _fault(adapter, "r", "a positive whole number", rank)
        alpha = config.get("lora_alpha")
        if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not isfinite(alpha):
            raise _fault(adapter, "lora_alpha", "a number", alpha)
        return cls(
            rank=rank,
            scale=alpha / (sqrt(rank) if config.get("use_rslora") else rank),
            target_modules=_names(adapter, config, "target_modules"),
            exclude_modules=_names(adapter, config, "exclude_modules", default=()),
            blocks=_blocks(adapter, config.get("layers_to_transform")),
        )

    def adapts(self, path: str, block_index: int) -> bool:
        """Tell whether the adapter is for a module.

        Args:
            path: of the module in the model, e.g. `model.layers.0.self_attn.q_proj`.
            block_index: of the block it is in.
        """
        if self.blocks is not None and block_index not in self.blocks:
            return False
        return _matches(path, self.target_modules) and not _matches(path, self.exclude_modules)


def _matches(path: str, names: Names) -> bool:
    if isinstance(names, str):
        return re.fullmatch(names, path) is not None
    return any(path == name or path.endswith(f".{name}") for name in names)


def _names(
    adapter: str, config: Mapping[str, Any], field: str, default: Names | None = None
) -> Names:
    value = config.get(field)
    if value is None:
        value = default
    if isinstance(value, str):
        try:
            re.compile(value)
        except re.error as error:
            raise AdapterError(
                adapter, f"{CONFIG_FILE}: {field} is not a regular expression"
            ) from error
        return value
    if isinstance(value, list | tuple) and all(isinstance(name, str) for name in value):
        return tuple(value)
    raise _fault(adapter, field, "a list of names or a regular expression", value)


def _blocks(adapter: str, value: object) -> frozenset[int] | None:
    if value is None or value == []:
        return None
    indexes = value if isinstance(value, list) else [value]
    if not all(type(index) is int for index in indexes):
        raise _fault(adapter, "layers_to_transform", "indexes of blocks", value)
    return frozenset(indexes)


def _fault(adapter: str, field: str, expected: str, got: object) -> AdapterError:
    return AdapterError(adapter, f"{CONFIG_FILE}: {field} must be {expected}, got {got!r:.60}")
