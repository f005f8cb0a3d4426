"""How large a session one call of `generate` needs. Pure."""

from collections.abc import Mapping

from torch import Tensor

from swarm_client.errors import LengthNotGivenError


def wanted_length(inputs: Tensor | None, options: Mapping[str, object]) -> int:
    """Return how many tokens a session for one call of `generate` must hold.

    Args:
        inputs: `[batch, num_tokens]` or `[batch, num_tokens, hidden_size]`; None stands for one
            start token.
        options: those of transformers' `generate`; a number in them goes before the same number
            in their `generation_config`.

    Raises:
        LengthNotGivenError: not exactly one of `max_length` and `max_new_tokens` is given.
    """
    max_length = _number("max_length", options)
    max_new_tokens = _number("max_new_tokens", options)
    if max_length is not None and max_new_tokens is None:
        return max_length
    if max_new_tokens is not None and max_length is None:
        return max_new_tokens + (1 if inputs is None else inputs.shape[1])
    raise LengthNotGivenError


def _number(name: str, options: Mapping[str, object]) -> int | None:
    value = options.get(name)
    if value is None:
        value = getattr(options.get("generation_config"), name, None)
    return value if isinstance(value, int) else None
