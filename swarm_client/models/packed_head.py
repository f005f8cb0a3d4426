"""An LM head whose weight is laid out for the processor, for whoever only wants logits."""

import torch
from torch import Tensor, nn

from swarm_kernels import can_pack as can_pack_weight
from swarm_kernels import pack_weight


class PackedHead(nn.Linear):
    """Normed hidden states to logits, with a bfloat16 weight on a CPU.

    Its `weight` is a shape without numbers: gradients need the plain layer.
    """

    def __init__(self, weight: Tensor) -> None:
        """Take `[vocab_size, hidden_size]`, of which `can_pack` is true; a copy is kept."""
        vocab_size, hidden_size = weight.shape
        super().__init__(hidden_size, vocab_size, bias=False, device="meta", dtype=weight.dtype)
        self.weight.requires_grad = False
        self._packed = pack_weight(weight)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return float32 `[num_rows, vocab_size]` for `[num_rows, hidden_size]`, which is rounded.

        Where the processor has instructions for bfloat16, logits may be rounded to it as well.
        """
        return self._packed.multiply(hidden.to(torch.bfloat16), torch.float32)


def can_pack(weight: Tensor) -> bool:
    """Tell whether this weight, on this machine, is faster packed."""
    return weight.dtype == torch.bfloat16 and can_pack_weight(weight)
