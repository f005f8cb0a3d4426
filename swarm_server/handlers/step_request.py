"""From the bytes of one message of `rpc_inference` to checked tensors.

Source: PETALS_PROTOCOL §3.2, §3.6 and §4. Values of hidden states are not looked at: not-a-number
poisons nobody's session but the sender's own.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from swarm_protocol.argument_packing import unpack_arguments
from swarm_protocol.errors import MalformedMessageError
from swarm_protocol.messages import ExpertRequest, parse_message
from swarm_protocol.metadata import InferenceMetadata
from swarm_protocol.tensor_codec import decode_tensor, is_absent
from swarm_server.engine.serving.requests import Step
from swarm_server.errors import InvalidStepError, StepTooLargeError

_MAX_TENSORS = 8


@dataclass(frozen=True, slots=True)
class StepRequest:
    """One message, parsed. `tensors` are as sent; `read_step` says what they mean."""

    uid: str
    metadata: InferenceMetadata
    tensors: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class StepLimits:
    """What the tensors of a step must fit. `num_blocks` counts those of the session."""

    hidden_size: int
    num_blocks: int
    max_batch_tokens: int


def parse_request(frame: bytes) -> StepRequest | None:
    """Return what a frame holds, or None for a message without tensors: the end of the session.

    Raises:
        MalformedMessageError: not an ExpertRequest, or its metadata or a tensor is damaged.
    """
    message = parse_message(ExpertRequest, frame)
    if not message.tensors:
        return None
    if len(message.tensors) > _MAX_TENSORS:
        raise MalformedMessageError(f"a step has at most {_MAX_TENSORS} tensors")
    return StepRequest(
        uid=message.uid,
        metadata=InferenceMetadata.parse(message.metadata),
        tensors=tuple(decode_tensor(tensor) for tensor in message.tensors),
    )


def read_step(request: StepRequest, structure: object, limits: StepLimits) -> Step:
    """Return the step that a request asks for.

    Args:
        request: with tensors hidden states, prompts, hypo_ids; the latter two may be absent.
        structure: the session's `args_structure`.
        limits: see the class.

    Raises:
        MalformedMessageError: tensors and structure do not agree.
        InvalidStepError: a shape, dtype or row number is wrong.
        StepTooLargeError: too many tokens for one step.
    """
    arguments = unpack_arguments(request.tensors, structure)
    arguments += [None] * (3 - len(arguments))
    hidden, prompts, hypo_ids = arguments[:3]
    if hidden is None:
        raise MalformedMessageError("a step has no hidden states")
    check_hidden(hidden, limits)
    return Step(hidden, read_prompts(prompts, hidden, limits), _read_hypo_ids(hypo_ids, hidden))


def check_hidden(hidden: Tensor, limits: StepLimits) -> None:
    """Refuse hidden states that are not [batch, num_tokens, hidden_size], or too many.

    Raises:
        InvalidStepError, StepTooLargeError: see the classes.
    """
    if hidden.dim() != 3 or hidden.shape[0] < 1 or hidden.shape[2] != limits.hidden_size:
        expected = f"[batch, num_tokens, {limits.hidden_size}]"
        raise InvalidStepError.shape("hidden states", expected, hidden.shape)
    if not hidden.is_floating_point():
        raise InvalidStepError.dtype("hidden states", "floating-point", hidden.dtype)
    # A step without tokens reserves memory; its rows count, for those to come are no fewer.
    num_tokens = hidden.shape[0] * max(1, hidden.shape[1])
    if num_tokens > limits.max_batch_tokens:
        raise StepTooLargeError(num_tokens, limits.max_batch_tokens)


def read_prompts(prompts: Tensor | None, hidden: Tensor, limits: StepLimits) -> Tensor | None:
    """Return deep prompts that fit the hidden states, or None when absent.

    Raises:
        InvalidStepError: a shape or dtype is wrong.
    """
    if prompts is None or is_absent(prompts):
        return None
    batch, num_tokens, hidden_size = hidden.shape
    if prompts.dim() > 0 and prompts.shape[0] != limits.num_blocks:
        raise InvalidStepError(
            f"Received {prompts.shape[0]} prompts for {limits.num_blocks} backends"
        )
    fits = (
        prompts.dim() == 4
        and prompts.shape[1] in (1, batch)
        and prompts.shape[2] <= num_tokens
        and prompts.shape[3] == hidden_size
    )
    if not fits:
        expected = f"[{limits.num_blocks}, 1 or {batch}, at most {num_tokens}, {hidden_size}]"
        raise InvalidStepError.shape("prompts", expected, prompts.shape)
    if not prompts.is_floating_point():
        raise InvalidStepError.dtype("prompts", "floating-point", prompts.dtype)
    return prompts


def _read_hypo_ids(hypo_ids: Tensor | None, hidden: Tensor) -> Tensor | None:
    if hypo_ids is None:
        return None
    if hypo_ids.dtype != torch.int64:
        raise InvalidStepError(f"hypo ids must be int64, got {hypo_ids.dtype}")
    if is_absent(hypo_ids):
        return None
    batch = hidden.shape[0]
    if hypo_ids.shape != (batch,):
        raise InvalidStepError.shape("hypo ids", f"[{batch}]", hypo_ids.shape)
    if int(hypo_ids.min()) < 0 or int(hypo_ids.max()) >= batch:
        raise InvalidStepError(f"hypo ids must be in 0..{batch - 1}")
    return hypo_ids
