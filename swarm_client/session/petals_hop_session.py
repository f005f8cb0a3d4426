"""A hop's session in the Petals dialect: an `rpc_inference` stream of its own.

Knows how a step looks on the wire (PETALS_PROTOCOL §3) and checks what comes back.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Final
from uuid import uuid4

import torch
from torch import Tensor

from swarm_client.errors import SessionClosedError
from swarm_client.routing import Hop
from swarm_client.session.hop_session import HopOutput, SessionTerms, StepInputs
from swarm_client.session.step_checks import is_finite
from swarm_protocol.argument_packing import structure_of
from swarm_protocol.errors import (
    DeadlineExceededError,
    MalformedMessageError,
    PeerError,
    PeerMisbehavedError,
    SwarmError,
)
from swarm_protocol.identifiers import BlockChain
from swarm_protocol.messages import ExpertRequest, ExpertResponse, parse_message
from swarm_protocol.metadata import InferenceMetadata
from swarm_protocol.node import MAX_FRAME_BYTES, CallStream
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
_ARGS_STRUCTURE: Final = structure_of(3)  # hidden states, deep prompts, hypo_ids
_WIDEST_VALUE_BYTES: Final = 4


class PetalsHopSession:
    """A `HopSession` on a stream that is open already."""

    def __init__(
        self, hop: Hop, stream: CallStream, description: PeerDescription, terms: SessionTerms
    ) -> None:
        self._hop = hop
        self._stream = stream
        self._description = description
        self._terms = terms
        self._uid = str(BlockChain(terms.dht_prefix, hop.blocks))
        self._session_id = str(uuid4())
        self._end = 0  # of the last step
        self._num_steps = 0
        self._is_ended = False
        # half of a frame is left for deep prompts and everything else
        frame_tokens = MAX_FRAME_BYTES // 2 // (_WIDEST_VALUE_BYTES * description.hidden_size)
        self._max_step_tokens = min(terms.max_step_tokens, frame_tokens)

    @property
    def hop(self) -> Hop:
        """See `HopSession`, as for all that follows."""
        return self._hop

    @property
    def can_roll_back(self) -> bool:
        """As the server says; one that says nothing would append in silence."""
        return self._description.can_roll_back

    @property
    def max_step_tokens(self) -> int:
        """Servers have no way to say it; this is what settings and frames allow."""
        return self._max_step_tokens

    @property
    def may_queue(self) -> bool:
        """We never ask for it; see `_metadata`."""
        return False

    async def match_prefix(self, token_ids: Sequence[int]) -> int:
        """The dialect has no names for prefixes."""
        return 0

    async def step(self, inputs: StepInputs, *, position: int) -> HopOutput:
        """Send one request and wait for its reply; the output is in the server's dtype."""
        request = self._encode(inputs, position)
        try:
            reply = await self._reply_to(request)
        except (PeerError, DeadlineExceededError) as error:
            if self._is_ended:  # by us
                raise SessionClosedError from error
            raise
        self._end = position + inputs.num_tokens
        return HopOutput(self._decode(reply, inputs.hidden.shape))

    async def close(self) -> None:
        """Say goodbye; returns when the server has closed the stream."""
        if self._is_ended:
            return
        try:
            with suppress(SwarmError, TimeoutError):  # abandoning frees the memory as well
                async with asyncio.timeout(self._terms.close_timeout_s):
                    await self._stream.send(_END_OF_SESSION)
                    await self._stream.finish()
                    while await self._stream.receive() is not None:
                        pass
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close our end of the stream."""
        self._is_ended = True
        self._stream.close()

    async def _reply_to(self, request: bytes) -> bytes:
        timeout_s = self._terms.step_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                await self._stream.send(request)
                reply = await self._stream.receive()
        except TimeoutError as error:
            raise DeadlineExceededError(
                f"peer {self._hop.peer}: no reply to a step within {timeout_s:g} s"
            ) from error
        if reply is None:
            raise PeerMisbehavedError(self._hop.peer, "it ended the session by itself")
        return reply

    def _encode(self, inputs: StepInputs, position: int) -> bytes:
        hidden, prompts, hypo_ids = inputs.hidden, inputs.prompts, inputs.hypo_ids
        # The server computes in its own dtype anyway: send the smaller one.
        if hidden.dtype.itemsize > self._description.dtype.itemsize:
            hidden = hidden.to(self._description.dtype)
        request = ExpertRequest(
            uid=self._uid,
            tensors=[
                encode_tensor(hidden),
                _NO_PROMPTS if prompts is None else encode_tensor(prompts),
                _NO_HYPO_IDS if hypo_ids is None else encode_tensor(hypo_ids),
            ],
            metadata=self._metadata(position).to_wire(),
        )
        data: bytes = request.SerializeToString()
        return data

    def _metadata(self, position: int) -> InferenceMetadata:
        """Return what goes with the next step; the first one of a stream says more.

        It never asks to wait for KV memory: when two callers wait, and the second one's time is
        up, the release cancels its wait for a lock, whose thread then takes it and keeps it.
        """
        assert position == self._end or (position < self._end and self.can_roll_back)
        self._num_steps += 1
        max_length = self._terms.max_length if self._num_steps == 1 else None
        return InferenceMetadata(
            session_id=self._session_id,
            step_id=str(self._num_steps),  # servers drop a step whose name they know already
            max_length=max_length,
            active_adapter=self._terms.active_adapter,
            args_structure=_ARGS_STRUCTURE,
            start_from_position=position if position < self._end else None,
        )

    def _decode(self, reply: bytes, shape: torch.Size) -> Tensor:
        peer = self._hop.peer
        try:
            response = parse_message(ExpertResponse, reply)
            if len(response.tensors) != 1 or tuple(response.tensors[0].size) != tuple(shape):
                sizes = str([tuple(message.size) for message in response.tensors])
                raise MalformedMessageError(f"expected one tensor {tuple(shape)}, got {sizes:.80}")
            hidden = decode_tensor(response.tensors[0])
        except MalformedMessageError as error:
            raise PeerMisbehavedError(peer, str(error)) from error
        if not hidden.is_floating_point():
            raise PeerMisbehavedError(peer, f"hidden states cannot be {hidden.dtype}")
        if not is_finite(hidden):
            raise PeerMisbehavedError(peer, "its hidden states are not finite")
        return hidden
