"""One hop's `rpc_inference` stream: hidden states out, hidden states back, in the Petals dialect.

Knows how a step looks on the wire (PETALS_PROTOCOL §3) and checks what comes back; knows neither
the other hops nor what to do about a failure.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from math import isfinite
from typing import Final

import torch
from torch import Tensor

from swarm_client.routing import Hop
from swarm_protocol.errors import (
    DeadlineExceededError,
    MalformedMessageError,
    PeerMisbehavedError,
    SwarmError,
)
from swarm_protocol.identifiers import BlockChain
from swarm_protocol.messages import ExpertRequest, ExpertResponse, parse_message
from swarm_protocol.node import CallStream
from swarm_protocol.server_info import PeerDescription
from swarm_protocol.tensor_codec import (
    absent_hypo_ids,
    absent_prompts,
    decode_tensor,
    encode_tensor,
)

_NO_PROMPTS: Final = encode_tensor(absent_prompts())
_NO_HYPO_IDS: Final = encode_tensor(absent_hypo_ids())
_END_OF_SESSION: Final = b""  # an empty ExpertRequest


@dataclass(frozen=True, slots=True)
class StepExtras:
    """What goes with the hidden states of a step.

    Attributes:
        metadata: packed `InferenceMetadata`, the same for all hops.
        prompts: deep prompts of the session's blocks, `[num_blocks, batch or 1, num_prompts,
            hidden_size]`.
        hypo_ids: int64 `[batch]`: the row whose KV cache each row continues.
        first_block: the one that `prompts[0]` belongs to.
    """

    metadata: bytes
    prompts: Tensor | None = None
    hypo_ids: Tensor | None = None
    first_block: int = 0


class HopStream:
    """An open stream to one server of the route. Owned by one session."""

    def __init__(
        self, hop: Hop, stream: CallStream, dht_prefix: str, description: PeerDescription
    ) -> None:
        self.hop = hop
        self.description = description
        self._stream = stream
        self._uid = str(BlockChain(dht_prefix, hop.blocks))

    async def exchange(self, hidden: Tensor, extras: StepExtras, timeout_s: float) -> Tensor:
        """Run hidden states through the hop's blocks.

        Args:
            hidden: `[batch, num_tokens, hidden_size]`, on the CPU, of any floating dtype.

        Returns:
            The same shape, in the server's dtype.

        Raises:
            PeerError: the stream broke, the server refused, or its reply fails a check.
            DeadlineExceededError: no reply in time.
        """
        request = self._encode(hidden, extras)
        try:
            async with asyncio.timeout(timeout_s):
                await self._stream.send(request)
                reply = await self._stream.receive()
        except TimeoutError as error:
            raise DeadlineExceededError(
                f"peer {self.hop.peer}: no reply to a step within {timeout_s:g} s"
            ) from error
        if reply is None:
            raise PeerMisbehavedError(self.hop.peer, "it ended the session by itself")
        return self._decode(reply, hidden.shape)

    async def say_goodbye(self) -> None:
        """End the session in good order; returns when the server has closed the stream."""
        with suppress(SwarmError):
            await self._stream.send(_END_OF_SESSION)
            await self._stream.finish()
            while await self._stream.receive() is not None:
                pass

    def abandon(self) -> None:
        """Drop the stream at once; the server frees its KV memory when it notices."""
        self._stream.close()

    def _encode(self, hidden: Tensor, extras: StepExtras) -> bytes:
        # The server computes in its own dtype anyway: send the smaller one.
        if hidden.dtype.itemsize > self.description.dtype.itemsize:
            hidden = hidden.to(self.description.dtype)
        prompts, hypo_ids = extras.prompts, extras.hypo_ids
        if prompts is not None:
            start, end = self.hop.blocks.start, self.hop.blocks.end
            prompts = prompts[start - extras.first_block : end - extras.first_block]
            prompts_message = encode_tensor(prompts)
        else:
            prompts_message = _NO_PROMPTS
        hypo_ids_message = _NO_HYPO_IDS if hypo_ids is None else encode_tensor(hypo_ids)
        request = ExpertRequest(
            uid=self._uid,
            tensors=[encode_tensor(hidden), prompts_message, hypo_ids_message],
            metadata=extras.metadata,
        )
        data: bytes = request.SerializeToString()
        return data

    def _decode(self, reply: bytes, shape: torch.Size) -> Tensor:
        try:
            response = parse_message(ExpertResponse, reply)
            if len(response.tensors) != 1 or tuple(response.tensors[0].size) != tuple(shape):
                sizes = str([tuple(message.size) for message in response.tensors])
                raise MalformedMessageError(f"expected one tensor {tuple(shape)}, got {sizes:.80}")
            hidden = decode_tensor(response.tensors[0])
        except MalformedMessageError as error:
            raise PeerMisbehavedError(self.hop.peer, str(error)) from error
        if not hidden.is_floating_point():
            raise PeerMisbehavedError(self.hop.peer, f"hidden states cannot be {hidden.dtype}")
        if not isfinite(hidden.sum(dtype=torch.float32).item()):
            raise PeerMisbehavedError(self.hop.peer, "its hidden states are not finite")
        return hidden
