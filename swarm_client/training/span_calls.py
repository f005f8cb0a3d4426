"""Forward and backward through one server's span, in the Petals dialect.

Knows how requests and replies look on the wire (PETALS_PROTOCOL §8 and §2.6) and checks what comes
back; knows neither the other spans nor what to do about a failure.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, prod
from typing import Final

import torch
from torch import Tensor

from swarm_client.errors import RequestTooLargeError, ServerBusyError
from swarm_client.peer_descriptions import PeerDescriptions
from swarm_client.routing import Hop
from swarm_client.training.span_request import SpanRequest
from swarm_protocol.errors import (
    DeadlineExceededError,
    MalformedMessageError,
    PeerMisbehavedError,
    PeerRefusedError,
)
from swarm_protocol.messages import TensorMessage
from swarm_protocol.methods import (
    RPC_BACKWARD,
    RPC_BACKWARD_STREAM,
    RPC_FORWARD,
    RPC_FORWARD_STREAM,
)
from swarm_protocol.node import Node
from swarm_protocol.tensor_codec import decode_tensor
from swarm_protocol.tensor_parts import MAX_UNARY_TENSOR_BYTES

_TOO_LARGE_TEXT: Final = "max_batch_size"  # PETALS_PROTOCOL §2.6, and our own servers
_BUSY_TEXT: Final = "its maximum of"  # our own servers; stock ones let everybody wait
_MAX_VALUE_BYTES: Final = 8  # of one value in a reply, whatever its dtype


@dataclass(frozen=True, slots=True)
class Gradients:
    """Of the inputs `[num_rows, num_tokens, hidden_size]`, and of deep prompts if there were any.

    `prompts` is `[num_blocks, num_rows, num_prompts, hidden_size]`.
    """

    hidden: Tensor
    prompts: Tensor | None = None


class SpanCalls:
    """Calls to the servers of one model. Tensors come and go on the CPU, in any float dtype."""

    def __init__(
        self,
        node: Node,
        dht_prefix: str,
        descriptions: PeerDescriptions,
        *,
        timeout_s: float,
        active_adapter: str | None = None,
    ) -> None:
        self._node = node
        self._dht_prefix = dht_prefix
        self._descriptions = descriptions
        self._timeout_s = timeout_s
        self._active_adapter = active_adapter

    async def forward(self, hop: Hop, hidden: Tensor, prompts: Tensor | None) -> Tensor:
        """Return the outputs of the hop's blocks, in the server's dtype.

        Args:
            hop: who runs which blocks.
            hidden: `[num_rows, num_tokens, hidden_size]`.
            prompts: deep prompts of these blocks, `[num_blocks, num_rows, num_prompts,
                hidden_size]`.

        Raises:
            PeerError, DeadlineExceededError: the server failed; names it.
            ServerBusyError: it takes no more requests right now.
            RequestTooLargeError: it takes no requests of that many tokens.
        """
        methods = (RPC_FORWARD, RPC_FORWARD_STREAM)
        (output,) = await self._call(hop, methods, [hidden, prompts], [hidden.shape])
        if not isfinite(output.sum(dtype=torch.float32).item()):
            raise PeerMisbehavedError(hop.peer, "its hidden states are not finite")
        return output

    async def backward(
        self, hop: Hop, hidden: Tensor, grad_outputs: Tensor, prompts: Tensor | None
    ) -> Gradients:
        """Return gradients; they may be infinite, as those of a scaled loss sometimes are.

        Args:
            hop: who runs which blocks.
            hidden: what went into the blocks.
            grad_outputs: gradient of what came out, of the same shape.
            prompts: as in `forward`.

        Raises:
            as `forward` does.
        """
        methods = (RPC_BACKWARD, RPC_BACKWARD_STREAM)
        shapes = [hidden.shape] if prompts is None else [hidden.shape, prompts.shape]
        grads = await self._call(hop, methods, [hidden, grad_outputs, prompts], shapes)
        return Gradients(*grads)

    async def _call(
        self,
        hop: Hop,
        methods: tuple[str, str],
        arguments: Sequence[Tensor | None],
        shapes: Sequence[torch.Size],
    ) -> list[Tensor]:
        """Return tensors of these shapes; what goes wrong is raised with the server's name."""
        try:
            async with asyncio.timeout(self._timeout_s):
                reply = await self._exchange(hop, methods, arguments, _max_bytes(shapes))
            return await asyncio.to_thread(_decode, reply, shapes)
        except TimeoutError as error:
            raise DeadlineExceededError(
                f"peer {hop.peer}: no reply for blocks {hop.blocks} within {self._timeout_s:g} s"
            ) from error
        except MalformedMessageError as error:
            raise PeerMisbehavedError(hop.peer, str(error)) from error
        except PeerRefusedError as error:
            if _TOO_LARGE_TEXT in error.reason:
                raise RequestTooLargeError(hop.peer, hop.blocks, prod(shapes[0][:2])) from error
            if _BUSY_TEXT in error.reason:
                raise ServerBusyError(hop.peer, hop.blocks) from error
            raise

    async def _exchange(
        self,
        hop: Hop,
        methods: tuple[str, str],
        arguments: Sequence[Tensor | None],
        max_reply_bytes: int,
    ) -> Sequence[TensorMessage]:
        """Call a method in its unary or its stream form."""
        dtype = (await self._descriptions.ask(hop)).dtype
        # Tensors are copied in a thread: they may have megabytes.
        request = await asyncio.to_thread(
            SpanRequest, hop, self._dht_prefix, arguments, dtype, self._active_adapter
        )
        if request.num_tensor_bytes <= MAX_UNARY_TENSOR_BYTES:
            return await request.send_whole(self._node, methods[0])
        return await request.send_in_parts(self._node, methods[1], max_reply_bytes=max_reply_bytes)


def _decode(reply: Sequence[TensorMessage], shapes: Sequence[torch.Size]) -> list[Tensor]:
    sizes = [tuple(message.size) for message in reply]
    expected = [tuple(shape) for shape in shapes]
    if sizes != expected:
        raise MalformedMessageError(f"expected tensors {expected}, got {sizes!s:.120}")
    tensors = [decode_tensor(message, max_bytes=_max_bytes(shapes)) for message in reply]
    if not all(tensor.is_floating_point() for tensor in tensors):
        dtypes = [message.dtype for message in reply]
        raise MalformedMessageError(f"expected floating-point tensors, got {dtypes}")
    return tensors


def _max_bytes(shapes: Sequence[torch.Size]) -> int:
    return _MAX_VALUE_BYTES * sum(shape.numel() for shape in shapes)
