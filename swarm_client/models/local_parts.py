"""What runs on the client's side of a model: embedding before the blocks, head after them."""

import torch
from torch import Tensor, nn

from swarm_client.models.facts import ModelFacts
from swarm_client.models.heads import HeadKind, make_head


class LocalParts(nn.Module):
    """The local tensors of one model, frozen, of one dtype, under Petals' names.

    Families differ only in the modules they put here. Position encodings, attention and KV caches
    are the servers' business.

    Attributes:
        dtype: of what goes into the first block.
        word_embeddings: token ids to embeddings, scaled where the family scales them.
        word_embeddings_layernorm: normalizes embeddings; the identity but for BLOOM.
        ln_f: the final norm, on what the last block returns.
        lm_head: normed hidden states to logits.
    """

    def __init__(
        self,
        facts: ModelFacts,
        *,
        word_embeddings: nn.Embedding,
        ln_f: nn.Module,
        lm_head: nn.Linear,
        word_embeddings_layernorm: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.facts = facts
        self.dtype: torch.dtype = word_embeddings.weight.dtype
        self.word_embeddings = word_embeddings
        self.word_embeddings_layernorm = word_embeddings_layernorm or nn.Identity()
        self.ln_f = ln_f
        self.lm_head = lm_head

    def use_head(self, kind: HeadKind | None) -> None:
        """Put another head in place, for logits only; `lm_head` has no weight to look at then.

        A head that is not tied to the embeddings takes no more memory than before, but for one of
        more bits; see `head_bytes`.
        """
        self.lm_head = make_head(self.lm_head.weight, kind)

    def embed(self, token_ids: Tensor) -> Tensor:
        """Return what goes into the first block.

        Args:
            token_ids: int64 `[...]`, below the vocabulary's size.

        Returns:
            `[..., hidden_size]` in `self.dtype`.
        """
        hidden: Tensor = self.word_embeddings_layernorm(self.word_embeddings(token_ids))
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """Return float32 logits `[num_rows, vocab_size]` of the last block's output.

        Args:
            hidden: `[num_rows, hidden_size]`; the final norm is applied here, in `self.dtype`.
        """
        logits: Tensor = self.lm_head(self.ln_f(hidden))
        return logits.float()
