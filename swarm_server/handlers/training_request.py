"""From the messages of `rpc_forward` and `rpc_backward` to checked tensors.

Source: PETALS_PROTOCOL §2.5, §4 and §8. Pure: no I/O, no clock.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

import torch
from torch import Tensor

from swarm_protocol.argument_packing import unpack_arguments
from swarm_protocol.errors import MalformedMessageError
from swarm_protocol.identifiers import BlockRange
from swarm_protocol.messages import TensorMessage
from swarm_protocol.metadata import TrainingMetadata
from swarm_protocol.tensor_codec import Compression, decode_tensor, encode_tensor
from swarm_server.errors import InvalidStepError
from swarm_server.handlers.opening import ServedModel
from swarm_server.handlers.step_request import StepLimits, check_hidden, read_prompts

MAX_TENSORS: Final = 8
_MAX_BYTES: Final = 256 * 1024 * 1024


class Direction(Enum):
    """Which way a request goes through the span; the value is its number of tensors."""

    FORWARD = 2  # hidden states, prompts
    BACKWARD = 3  # hidden states, gradients of the outputs, prompts


@dataclass(frozen=True, slots=True)
class TrainingPass:
    """A checked request: run these blocks over whole sequences, or back through them.

    `grad_outputs` is given for a backward pass only. `codecs` has one for each returned tensor.
    """

    blocks: BlockRange
    hidden: Tensor
    grad_outputs: Tensor | None
    prompts: Tensor | None
    adapter: str | None
    codecs: tuple[Compression, ...]

    def reply_bytes(self, dtype: torch.dtype) -> int:
        """Return how large the returned tensors are, at most."""
        num_values = self.hidden.numel()
        if self.grad_outputs is not None and self.prompts is not None:
            num_values += self.prompts[:, 0].numel() * self.hidden.shape[0]
        return num_values * dtype.itemsize


def max_request_bytes(served: ServedModel, blocks: BlockRange) -> int:
    """Return the most bytes that the tensors of a request may have, all together.

    That is float64 hidden states, their gradients, and prompts for each token; but 256 MiB.
    """
    num_rows = served.max_batch_tokens * (2 + len(blocks))
    return min(num_rows * served.hidden_size * 8, _MAX_BYTES)


def decode_tensors(messages: Sequence[TensorMessage], max_bytes: int) -> list[Tensor]:
    """Return the tensors of a request.

    Raises:
        MalformedMessageError: there are too many, or one is damaged or over `max_bytes`.
    """
    if len(messages) > MAX_TENSORS:
        raise MalformedMessageError(f"expected at most {MAX_TENSORS} tensors, got {len(messages)}")
    return [decode_tensor(message, max_bytes=max_bytes) for message in messages]


def read_pass(
    direction: Direction,
    served: ServedModel,
    uid: str,
    metadata: TrainingMetadata,
    tensors: Sequence[Tensor],
    dtype: torch.dtype,
) -> TrainingPass:
    """Return what a request asks for.

    Args:
        direction: of the method.
        served: what is here.
        uid: chain of blocks.
        metadata: of the request.
        tensors: as sent.
        dtype: of the replies.

    Raises:
        MalformedMessageError: tensors, structure and codecs do not agree.
        NotServedError: blocks or an adapter that are not here.
        InvalidStepError, StepTooLargeError: a tensor does not fit.
    """
    blocks = served.find_blocks(uid)
    adapter = served.check_adapter(metadata.active_adapter)
    limits = served.limits(blocks)
    arguments = unpack_arguments(tensors, metadata.args_structure)[: direction.value]
    arguments += [None] * (direction.value - len(arguments))
    hidden, prompts = _read_hidden(arguments[0], limits), arguments[-1]
    gradients = _read_gradients(arguments[1], hidden) if direction is Direction.BACKWARD else None
    prompts = read_prompts(prompts, hidden, limits)
    num_outputs = 1 if gradients is None or prompts is None else 2
    codecs = _read_codecs(metadata.output_compression, num_outputs, dtype)
    return TrainingPass(blocks, hidden, gradients, prompts, adapter, codecs)


def _read_hidden(hidden: Tensor | None, limits: StepLimits) -> Tensor:
    if hidden is None:
        raise MalformedMessageError("the request has no hidden states")
    check_hidden(hidden, limits)
    if hidden.shape[1] == 0:
        raise InvalidStepError("hidden states must have at least one token")
    return hidden


def _read_gradients(gradients: Tensor | None, hidden: Tensor) -> Tensor:
    if gradients is None:
        raise MalformedMessageError("the request has no gradients of outputs")
    if gradients.shape != hidden.shape:
        raise InvalidStepError.shape(
            "gradients of outputs", str(list(hidden.shape)), gradients.shape
        )
    if not gradients.is_floating_point():
        raise InvalidStepError.dtype("gradients of outputs", "floating-point", gradients.dtype)
    return gradients


def _read_codecs(
    wanted: tuple[int, ...] | None, num_outputs: int, dtype: torch.dtype
) -> tuple[Compression, ...]:
    if wanted is None:
        return (Compression.NONE,) * num_outputs
    if len(wanted) != num_outputs:
        raise MalformedMessageError(
            f"output_compression must have {num_outputs} entries, got {len(wanted)}"
        )
    try:
        codecs = tuple(Compression(code) for code in wanted)
    except ValueError as error:
        raise MalformedMessageError(f"output_compression: {error}") from error
    for codec in codecs:
        encode_tensor(torch.empty(0, dtype=dtype), codec)  # refuses what we cannot encode
    return codecs
