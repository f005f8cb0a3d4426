"""Trainable prompts: embeddings before the tokens, and tensors added before every block.

Knows shapes and dtypes only. When they apply is the model's business: at position 0.
"""

from enum import StrEnum
from typing import Final

import torch
from torch import Tensor, nn

from swarm_client.errors import InvalidParametersError
from swarm_client.models.facts import ModelFacts

_INIT_STD: Final = 0.02  # what most families initialise their embeddings with


class TuningMode(StrEnum):
    """Which prompts are trained. The names are Petals'."""

    PTUNE = "ptune"
    DEEP_PTUNE = "deep_ptune"


class PromptTuning(nn.Module):
    """The prompts of one model, float32 whatever the dtype of the model is.

    Optimizers need the precision; what is handed out is cast to the model's dtype.

    Attributes:
        mode: which prompts there are.
        pre_seq_len: tokens that the prompts take at the start of a sequence.
        prompt_embeddings: `[pre_seq_len, hidden_size]`, go before the tokens' embeddings.
        deep_prompt_embeddings: `[pre_seq_len, num_blocks * hidden_size]`, are added to the first
            `pre_seq_len` hidden states before each block; None for `ptune`.
    """

    def __init__(
        self,
        facts: ModelFacts,
        *,
        mode: TuningMode,
        pre_seq_len: int,
        dtype: torch.dtype,
        device: str = "cpu",
    ) -> None:
        super().__init__()
        self.mode = mode
        self.pre_seq_len = pre_seq_len
        self._dtype = dtype
        self._num_blocks = facts.num_blocks
        self.prompt_embeddings = _random_parameter(pre_seq_len, facts.hidden_size, device)
        self.deep_prompt_embeddings: nn.Parameter | None = None
        if mode is TuningMode.DEEP_PTUNE:
            width = facts.num_blocks * facts.hidden_size
            self.deep_prompt_embeddings = _random_parameter(pre_seq_len, width, device)

    def prepend(self, embeds: Tensor) -> Tensor:
        """Put the prompt before token embeddings.

        Args:
            embeds: `[batch, num_tokens, hidden_size]` in the model's dtype.

        Returns:
            `[batch, pre_seq_len + num_tokens, hidden_size]`, same dtype and device.
        """
        prompt = self.prompt_embeddings.to(embeds)
        return torch.cat([prompt.expand(len(embeds), -1, -1), embeds], dim=1)

    def deep_prompts(self, batch_size: int) -> Tensor | None:
        """Return `[num_blocks, batch_size, pre_seq_len, hidden_size]` in the model's dtype.

        None for `ptune`.
        """
        if self.deep_prompt_embeddings is None:
            return None
        shape = (self.pre_seq_len, self._num_blocks, -1)
        by_block = self.deep_prompt_embeddings.to(self._dtype).view(shape)
        prompts = by_block.transpose(0, 1).unsqueeze(1).expand(-1, batch_size, -1, -1)
        # Views of a parameter claim to want gradients even where torch records none.
        return prompts if torch.is_grad_enabled() else prompts.detach()


def make_prompt_tuning(
    facts: ModelFacts,
    *,
    tuning_mode: str | None,
    pre_seq_len: int,
    dtype: torch.dtype,
    device: str = "cpu",
) -> PromptTuning | None:
    """Return new prompts as asked for in `from_pretrained`, or None when none are.

    They are drawn from torch's global generator.

    Args:
        facts: of the model they are for.
        tuning_mode: `ptune`, `deep_ptune` or None.
        pre_seq_len: tokens of the prompts; 0 exactly when there is no mode.
        dtype: of the model's embeddings.
        device: of the prompts.

    Raises:
        InvalidParametersError: there is no such mode, or the length does not suit it.
    """
    modes = [mode.value for mode in TuningMode]
    if tuning_mode is not None and tuning_mode not in modes:
        raise InvalidParametersError("tuning_mode", f"one of {modes} or None", tuning_mode)
    if tuning_mode is None:
        if pre_seq_len != 0:
            raise InvalidParametersError("pre_seq_len", "0 without a tuning_mode", pre_seq_len)
        return None
    if not 0 < pre_seq_len < facts.max_positions:
        raise InvalidParametersError(
            "pre_seq_len", f"in 1..{facts.max_positions - 1} for {tuning_mode}", pre_seq_len
        )
    mode = TuningMode(tuning_mode)
    return PromptTuning(facts, mode=mode, pre_seq_len=pre_seq_len, dtype=dtype, device=device)


def _random_parameter(num_rows: int, num_columns: int, device: str) -> nn.Parameter:
    shape = (num_rows, num_columns)
    return nn.Parameter(torch.normal(0.0, _INIT_STD, shape, dtype=torch.float32, device=device))
