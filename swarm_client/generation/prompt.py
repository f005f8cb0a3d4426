"""Whether what a caller gives `generate` is a prompt; told before anything is sent. Pure."""

from typing import Final

from torch import Tensor

_EXPECTED: Final = "inputs must be token ids, integers [batch, num_tokens]"


def check_prompt(inputs: object, vocab_size: int, *, may_be_empty: bool) -> None:
    """Check the tokens of a prompt; a session that holds some may go on without new ones.

    Raises:
        ValueError: it is no integer tensor `[batch, num_tokens]`, or a token is not of the model.
    """
    if not isinstance(inputs, Tensor):
        raise ValueError(f"{_EXPECTED}, got {type(inputs).__name__}")
    if inputs.dim() != 2 or inputs.is_floating_point():
        raise ValueError(f"{_EXPECTED}, got {list(inputs.shape)} of {inputs.dtype}")
    if inputs.numel() == 0:
        if may_be_empty:
            return
        raise ValueError(f"inputs must have a token at least, got {list(inputs.shape)}")
    lowest, highest = (int(bound) for bound in inputs.aminmax())
    if lowest < 0 or highest >= vocab_size:
        wrong = lowest if lowest < 0 else highest
        raise ValueError(f"inputs must be token ids from 0 to {vocab_size - 1}, got {wrong}")
