"""The files of one adapter, and reading from them what a block needs and nothing else."""

import json
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError, safe_open
from torch import Tensor

from swarm_protocol.checkpoint import HubSettings
from swarm_protocol.checkpoint.source import open_files
from swarm_server.adapters.layers import Delta, Layers, Module, lay_out
from swarm_server.adapters.lora_config import CONFIG_FILE, LoraConfig
from swarm_server.engine.adaptable_linear import BlockAdapter
from swarm_server.errors import AdapterError

_WEIGHTS_FILE: Final = "adapter_model.safetensors"
_SIDES: Final = {"A", "B"}
_TENSOR_NAME: Final = re.compile(
    r"(?:base_model\.model\.)?"
    r"(?P<trunk>(?:.*?\.)?(?:layers|h|blocks?|layer))\.(?P<block>\d{1,6})\.(?P<module>.+)"
    r"\.lora_(?P<side>[AB])(?:\.\w+)?\.weight"
)
"""E.g. base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight. PETALS_PROTOCOL §7.8."""


def adapter_name(source: str) -> str:
    """Return what clients call an adapter: its repository, or the last part of its directory."""
    path = Path(source)
    return path.resolve().name if path.is_dir() else source


class AdapterFiles:
    """One adapter. Opening reads its config and the names of its tensors."""

    def __init__(self, name: str, config: LoraConfig, path: Path, names: Iterable[str]) -> None:
        """Sort tensor names out.

        Raises:
            AdapterError: one is not a LoRA matrix of a block, or not where the others are.
        """
        self.name = name
        self._config = config
        self._path = path
        self._tensors: dict[int, dict[str, dict[str, str]]] = {}  # block -> module -> A | B
        trunks: set[str] = set()
        for tensor in names:
            match = _TENSOR_NAME.fullmatch(tensor)
            if match is None:
                raise AdapterError(name, f"{tensor:.120} is not a LoRA matrix of a block")
            trunks.add(match["trunk"])
            modules = self._tensors.setdefault(int(match["block"]), {})
            modules.setdefault(match["module"], {})[match["side"]] = tensor
        if len(trunks) != 1:
            raise AdapterError(name, f"has weights for {len(trunks)} lists of blocks; must be one")
        self._trunk = trunks.pop()

    @classmethod
    def open(cls, source: str, *, hub: HubSettings) -> "AdapterFiles":
        """Open the adapter in a directory, or in a repository of the hub.

        Raises:
            CheckpointError: there is no such thing, or a file cannot be fetched.
            AdapterError: it is not a LoRA adapter in safetensors that we can serve.
        """
        name = adapter_name(source)
        files = open_files(source, None, hub)
        config_path, path = files.path(CONFIG_FILE), files.path(_WEIGHTS_FILE)
        if config_path is None:
            raise AdapterError(name, f"has no {CONFIG_FILE}, so it is not an adapter")
        if path is None:
            raise AdapterError(name, f"has no {_WEIGHTS_FILE}; pickled .bin files are not read")
        config = LoraConfig.parse(name, _read_json(name, config_path))
        try:
            with safe_open(path, framework="pt") as file:
                return cls(name, config, path, file.keys())
        except (SafetensorError, OSError) as error:
            raise AdapterError(name, f"{_WEIGHTS_FILE} is damaged: {error}") from error

    def read_block(self, block_index: int, layers: Layers, *, device: str) -> BlockAdapter:
        """Read what the adapter adds to the layers of one block.

        Raises:
            AdapterError: a matrix is missing, has a wrong shape, or is for no module of the block.
        """
        modules = {module.name: module for layer in layers.values() for module in layer.modules}
        wanted = self._wanted(block_index, modules)
        tensors = self._load([name for pair in wanted.values() for name in pair])
        deltas = {
            module: self._delta(modules[module], tensors[down], tensors[up])
            for module, (down, up) in wanted.items()
        }
        laid_out = {name: lay_out(layer, deltas, device=device) for name, layer in layers.items()}
        return {name: weights for name, weights in laid_out.items() if weights is not None}

    def _wanted(self, block_index: int, modules: Collection[str]) -> dict[str, tuple[str, str]]:
        """Return the tensors of A and B for each module of a block that the adapter is for."""
        tensors = self._tensors.get(block_index, {})
        unknown = tensors.keys() - set(modules)
        if unknown:
            raise AdapterError(self.name, f"adapts {min(unknown):.80}, which is not served")
        wanted: dict[str, tuple[str, str]] = {}
        for module in modules:
            path = f"{self._trunk}.{block_index}.{module}"
            sides = tensors.get(module, {})
            if self._config.adapts(path, block_index):
                for side in sorted(_SIDES - sides.keys()):
                    raise AdapterError(self.name, f"has no lora_{side} for {path}")
                wanted[module] = (sides["A"], sides["B"])
            elif sides:
                raise AdapterError(self.name, f"has weights for {path}, but does not target it")
        return wanted

    def _delta(self, module: Module, down: Tensor, up: Tensor) -> Delta:
        """Return the checked A and B of a module; the scale goes into B."""
        rank = self._config.rank
        expected = [rank, module.num_inputs], [module.num_outputs, rank]
        if (list(down.shape), list(up.shape)) != expected:
            raise AdapterError(
                self.name,
                f"lora_A and lora_B of {module.name} must have shapes {expected[0]} and "
                f"{expected[1]}, got {list(down.shape)} and {list(up.shape)}",
            )
        if not (down.isfinite().all() and up.isfinite().all()):
            raise AdapterError(self.name, f"lora_A or lora_B of {module.name} is not finite")
        return down.float(), up.float() * self._config.scale

    def _load(self, names: Iterable[str]) -> dict[str, Tensor]:
        try:
            with safe_open(self._path, framework="pt") as file:
                return {name: file.get_tensor(name) for name in names}
        except (SafetensorError, OSError) as error:
            raise AdapterError(self.name, f"{_WEIGHTS_FILE} is damaged: {error}") from error


def _read_json(adapter: str, path: Path) -> Mapping[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AdapterError(adapter, f"{CONFIG_FILE} is not readable JSON") from error
    if not isinstance(value, dict):
        raise AdapterError(adapter, f"{CONFIG_FILE} is not a JSON object")
    return value
