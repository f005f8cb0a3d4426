"""How large a session one call of `generate` needs. Pure."""

from collections.abc import Mapping

from torch import Tensor


def wanted_length(inputs: Tensor | None, options: Mapping[str, object]) -> tuple[int, int]:
    """Return the length and batch size of a session for one call of `generate`.

    Args:
        inputs: `[batch, num_tokens]`; None stands for one start token.
        options: those of transformers' `generate`; a number in them goes before the same number
            in their `generation_config`.

    Raises:
        ValueError: not exactly one of `max_length` and `max_new_tokens` is given.
    """
    max_length = _number("max_length", options)
    max_new_tokens = _number("max_new_tokens", options)
    if (max_length is None) == (max_new_tokens is None):
        raise ValueError(
            "You should set `max_length` or `max_new_tokens` (but not both) "
            "to reserve server-side attention caches"
        )
    num_rows, num_tokens = (1, 1) if inputs is None else inputs.shape
    copies = _number("num_return_sequences", options) or 1
    length = max_length if max_length is not None else num_tokens + (max_new_tokens or 0)
    return length, num_rows * copies


def _number(name: str, options: Mapping[str, object]) -> int | None:
    value = options.get(name)
    if value is None:
        value = getattr(options.get("generation_config"), name, None)
    return value if isinstance(value, int) else None
