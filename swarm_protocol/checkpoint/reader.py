"""Reads config and tensors of a safetensors checkpoint, one shard open at a time."""

import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from swarm_protocol.checkpoint.hub import HubSettings
from swarm_protocol.checkpoint.source import ModelFiles, open_files
from swarm_protocol.errors import CheckpointError

_INDEX: Final = "model.safetensors.index.json"
_DEFAULT_HUB: Final = HubSettings()
_SINGLE: Final = "model.safetensors"
_TOKENIZER_FILES: Final = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "tokenizer.model",
)


class Checkpoint:
    """Config and weights of one model. Opening reads only config.json."""

    def __init__(self, source: str, files: ModelFiles, config: dict[str, Any]) -> None:
        self.source = source
        self.config = config
        self._files = files
        self._shards: dict[str, str] | None = None

    @classmethod
    def open(
        cls, source: str, *, revision: str | None = None, hub: HubSettings = _DEFAULT_HUB
    ) -> "Checkpoint":
        """Open a directory, or a hub repository `organization/name`.

        Args:
            source: the directory or repository.
            revision: branch, tag or commit of the repository. A branch is looked up once per
                process, so that all files are of one commit.
            hub: where the hub is, and what its files may take of the disk.

        Raises:
            CheckpointError: no such model, or its config.json is missing or broken.
        """
        files = open_files(source, revision, hub)
        config = _read_json(source, files, "config.json")
        if config is None:
            raise CheckpointError(f"{source!r} has no config.json, so it is not a model")
        return cls(source, files, config)

    @property
    def model_type(self) -> str:
        """The architecture's name, e.g. `llama`; empty when config.json has none."""
        return str(self.config.get("model_type", ""))

    @property
    def dtype_name(self) -> str | None:
        """Dtype of the stored weights, as config.json says."""
        name = self.config.get("dtype", self.config.get("torch_dtype"))
        return name if isinstance(name, str) else None

    @property
    def ships_code(self) -> bool:
        """Tell whether the model comes with Python code of its own, which we never run."""
        return "auto_map" in self.config

    def read_json(self, name: str) -> dict[str, Any] | None:
        """Return the JSON object in a file of the model, or None if there is no such file."""
        return _read_json(self.source, self._files, name)

    def tokenizer_directory(self) -> Path:
        """Return a directory that holds the tokenizer's files.

        Raises:
            CheckpointError: the model has no tokenizer.
        """
        paths = [self._files.path(name) for name in _TOKENIZER_FILES]
        found = [path for path in paths if path is not None]
        if not found:
            raise CheckpointError(f"{self.source!r} has no tokenizer files")
        return found[0].parent

    def has(self, name: str) -> bool:
        """Tell whether the checkpoint holds a tensor of this name."""
        return name in self._shard_of()

    def load(self, names: Iterable[str], dtype: torch.dtype | None = None) -> dict[str, Tensor]:
        """Read tensors, in memory of their own, opening only the shards that hold them.

        Args:
            names: tensor names.
            dtype: floating-point tensors are cast to it; None keeps them as stored.

        Raises:
            CheckpointError: a tensor or shard is missing, or a shard is damaged.
        """
        shard_of = self._shard_of()
        wanted: dict[str, list[str]] = defaultdict(list)
        for name in names:
            if name not in shard_of:
                raise CheckpointError(f"{self.source!r} has no tensor {name}")
            wanted[shard_of[name]].append(name)
        tensors: dict[str, Tensor] = {}
        for shard, shard_names in wanted.items():
            tensors |= self._load_from(shard, shard_names, dtype)
        return tensors

    def _load_from(
        self, shard: str, names: Iterable[str], dtype: torch.dtype | None
    ) -> dict[str, Tensor]:
        path = self._files.path(shard)
        if path is None:
            raise CheckpointError(f"{self.source!r} names the shard {shard}, which is not there")
        try:
            with safe_open(path, framework="pt") as file:
                return {name: _cast(file.get_tensor(name), dtype) for name in names}
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{shard} of {self.source!r} is damaged: {error}") from error

    def _shard_of(self) -> dict[str, str]:
        if self._shards is None:
            self._shards = self._read_index() or self._read_single()
        return self._shards

    def _read_index(self) -> dict[str, str] | None:
        index = self.read_json(_INDEX)
        if index is None:
            return None
        shards = index.get("weight_map")
        if not isinstance(shards, dict) or not all(_is_safe(name) for name in shards.values()):
            raise CheckpointError(f"{_INDEX} of {self.source!r} does not map tensors to files")
        return shards

    def _read_single(self) -> dict[str, str]:
        path = self._files.path(_SINGLE)
        if path is None:
            raise CheckpointError(
                f"{self.source!r} has no weights as safetensors; pickled .bin files are not read"
            )
        try:
            with safe_open(path, framework="pt") as file:
                return dict.fromkeys(file.keys(), _SINGLE)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{_SINGLE} of {self.source!r} is damaged: {error}") from error


def _cast(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    if dtype is None or not tensor.is_floating_point() or tensor.dtype == dtype:
        return tensor
    return tensor.to(dtype)


def _is_safe(name: object) -> bool:
    """An index is input from outside: it may name safetensors files beside it and nothing else."""
    return isinstance(name, str) and name.endswith(".safetensors") and Path(name).name == name


def _read_json(source: str, files: ModelFiles, name: str) -> dict[str, Any] | None:
    path = files.path(name)
    if path is None:
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{name} of {source!r} is not readable JSON") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{name} of {source!r} is not a JSON object")
    return value
