"""Which token stands for a whole text. Pure; the rules are transformers'."""

import torch
from torch import Tensor


def last_token_indices(input_ids: Tensor, pad_token_id: int | None) -> Tensor:
    """Return int64 `[batch]`: the place of each row's last token that is no padding.

    Args:
        input_ids: int64 `[batch, num_tokens]`.
        pad_token_id: None if the model has no such token; then the last token of the only row.

    Raises:
        ValueError: several rows, and no padding token to find their ends by.
    """
    batch_size, num_tokens = input_ids.shape
    if pad_token_id is None:
        if batch_size != 1:
            raise ValueError("a batch of several rows needs config.pad_token_id to find their ends")
        return torch.full((1,), num_tokens - 1, device=input_ids.device)
    places = torch.arange(num_tokens, device=input_ids.device)
    return (places * (input_ids != pad_token_id)).argmax(-1)
