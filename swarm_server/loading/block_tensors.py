"""Reading the tensors of one block by name, each checked against the size that the config says."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from swarm_protocol.checkpoint import Checkpoint
from swarm_protocol.errors import CheckpointError
from swarm_server.adapters import Layer, Module
from swarm_server.engine.adaptable_linear import AdaptableLinear
from swarm_server.engine.linear import make_linear


class BlockTensors:
    """The tensors of one block; nothing else is read. `layers` says what was made of them."""

    def __init__(
        self, checkpoint: Checkpoint, prefixes: Sequence[str], *, dtype: torch.dtype, device: str
    ) -> None:
        """Read nothing yet.

        Args:
            checkpoint: that has the block.
            prefixes: what its tensors' names may begin with; the first is the usual one.
            dtype: of everything read.
            device: of everything read.
        """
        self.layers: dict[str, Layer] = {}
        self._checkpoint = checkpoint
        self._prefixes = prefixes
        self._dtype = dtype
        self._device = device

    def has(self, name: str) -> bool:
        """Tell whether the block has a tensor of this name."""
        return self._checkpoint.has(self._full_name(name))

    def read(self, name: str, *size: int) -> Tensor:
        """Return a tensor, on the device.

        Raises:
            CheckpointError: it is missing, or its shape is not `size`.
        """
        full_name = self._full_name(name)
        tensor = self._checkpoint.load([full_name], self._dtype)[full_name]
        if tensor.shape != size:
            raise CheckpointError(
                f"{full_name} must have shape {list(size)}, got {list(tensor.shape)}"
            )
        return tensor.to(self._device)

    def linear(
        self,
        name: str,
        num_outputs: Mapping[str, int],
        num_inputs: int,
        *,
        has_bias: bool = False,
        order: Tensor | None = None,
    ) -> AdaptableLinear:
        """Return one product for several modules, their outputs one after another.

        Args:
            name: of the layer in the block, for adapters.
            num_outputs: of each module, by its name in the checkpoint.
            num_inputs: of all of them.
            has_bias: whether each has a bias.
            order: int64 [num_outputs of all]; output i is what the modules call `order[i]`.

        Raises:
            CheckpointError: a weight or bias is missing or has a wrong shape.
        """
        modules = tuple(Module(module, size, num_inputs) for module, size in num_outputs.items())
        layer = Layer(modules) if order is None else Layer(modules, lambda rows: rows[order])
        weights = [self.read(f"{m.name}.weight", m.num_outputs, m.num_inputs) for m in modules]
        biases = [self.read(f"{m.name}.bias", m.num_outputs) for m in modules if has_bias]
        self.layers[name] = layer
        return AdaptableLinear(
            name,
            make_linear(
                layer.arrange(_joined(weights)), layer.arrange(_joined(biases)) if biases else None
            ),
        )

    def _full_name(self, name: str) -> str:
        names = [prefix + name for prefix in self._prefixes]
        return next((full_name for full_name in names if self._checkpoint.has(full_name)), names[0])


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))
