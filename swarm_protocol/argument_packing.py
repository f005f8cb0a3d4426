"""How positional arguments of a remote method become a flat list of tensors and back.

The structure mirrors `(args, kwargs)` with the i-th distinct tensor replaced by `__T<i>`.
Source: PETALS_PROTOCOL §4.
"""

from collections.abc import Sequence
from typing import Final

from torch import Tensor

from swarm_protocol.errors import MalformedMessageError

_MARK: Final = b"__T"
_MAX_LEAVES: Final = 256


def structure_of(num_tensors: int) -> object:
    """Return the structure of `num_tensors` distinct positional tensors and no keywords."""
    return (tuple(_MARK + str(index).encode() for index in range(num_tensors)), {})


def unpack_arguments(tensors: Sequence[Tensor], structure: object) -> list[Tensor | None]:
    """Return the positional arguments; None stands for an argument given as nil.

    Args:
        tensors: in order of first appearance.
        structure: the `args_structure` of the request, or None for "the tensors as they are".

    Raises:
        MalformedMessageError: the structure is no `(args, kwargs)` pair, names a tensor that is
            not there, or is too large.
    """
    if structure is None:
        return list(tensors)
    if not (isinstance(structure, list | tuple) and len(structure) == 2):
        raise MalformedMessageError("args_structure is not a pair of positional and keyword ones")
    arguments = structure[0]
    if not isinstance(arguments, list | tuple) or len(arguments) > _MAX_LEAVES:
        raise MalformedMessageError("args_structure does not list positional arguments")
    return [_resolve(leaf, tensors) for leaf in arguments]


def _resolve(leaf: object, tensors: Sequence[Tensor]) -> Tensor | None:
    if leaf is None:
        return None
    if isinstance(leaf, bytes) and leaf.startswith(_MARK):
        digits = leaf.removeprefix(_MARK)
        if digits.isdigit() and len(digits) <= 3 and int(digits) < len(tensors):
            return tensors[int(digits)]
    raise MalformedMessageError(
        f"args_structure names an argument that is not among the {len(tensors)} tensors"
    )
