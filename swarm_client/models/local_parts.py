"""What runs on the client's side of a model: embedding before the blocks, head after them."""

from abc import abstractmethod

import torch
from torch import Tensor, nn

from swarm_client.models.facts import ModelFacts


class LocalParts(nn.Module):
    """The local tensors of one model, frozen. Subclassed once per family.

    Position encodings, attention and KV caches are the servers' business.
    """

    def __init__(self, facts: ModelFacts, dtype: torch.dtype) -> None:
        super().__init__()
        self.facts = facts
        self.dtype = dtype

    @abstractmethod
    def embed(self, token_ids: Tensor) -> Tensor:
        """Return what goes into the first block.

        Args:
            token_ids: int64 `[...]`, below the vocabulary's size.

        Returns:
            `[..., hidden_size]` in `self.dtype`.
        """

    @abstractmethod
    def logits(self, hidden: Tensor) -> Tensor:
        """Return float32 logits `[num_rows, vocab_size]` of the last block's output.

        Args:
            hidden: `[num_rows, hidden_size]`; the final norm is applied here.
        """
