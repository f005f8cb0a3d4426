"""One request of a forward or backward pass, whole or in parts, and its raw reply."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import suppress

import torch
from torch import Tensor

from swarm_client.routing import Hop
from swarm_protocol.argument_packing import structure_of
from swarm_protocol.errors import PeerError
from swarm_protocol.identifiers import BlockChain
from swarm_protocol.messages import ExpertRequest, ExpertResponse, TensorMessage, parse_message
from swarm_protocol.metadata import TrainingMetadata
from swarm_protocol.node import CallStream, Node
from swarm_protocol.tensor_codec import absent_prompts, encode_tensor
from swarm_protocol.tensor_parts import PartAssembler, split_tensors

_MAX_REPLY_TENSORS = 2  # gradients of inputs and of deep prompts


class SpanRequest:
    """Tensors for one span. None stands for deep prompts that are not there."""

    def __init__(
        self,
        hop: Hop,
        dht_prefix: str,
        arguments: Sequence[Tensor | None],
        server_dtype: torch.dtype,
        active_adapter: str | None,
    ) -> None:
        self._peer = hop.peer
        self._uid = str(BlockChain(dht_prefix, hop.blocks))
        self._messages = [_encode(argument, server_dtype) for argument in arguments]
        self._metadata = TrainingMetadata(
            active_adapter=active_adapter, args_structure=structure_of(len(arguments))
        ).to_wire()

    @property
    def num_tensor_bytes(self) -> int:
        """Raw bytes of all tensors."""
        return sum(len(message.buffer) for message in self._messages)

    async def send_whole(self, node: Node, method: str) -> Sequence[TensorMessage]:
        """Make a unary call.

        Raises:
            PeerError: see `Node.call`.
            MalformedMessageError: the reply is no message.
        """
        reply = await node.call(self._peer, method, self._frame(self._messages))
        return _parse(reply)

    async def send_in_parts(
        self, node: Node, method: str, *, max_reply_bytes: int
    ) -> Sequence[TensorMessage]:
        """Make a streaming call, a part in each frame.

        Raises:
            PeerError: see `Node.open_stream` and `CallStream`.
            MalformedMessageError: the reply is no message, or over the limit.
        """
        stream = await node.open_stream(self._peer, method)
        # A server may refuse before it has read everything, so we listen while we send.
        sending = asyncio.create_task(self._send_parts(stream))
        try:
            reply = PartAssembler(max_tensors=_MAX_REPLY_TENSORS, max_bytes=max_reply_bytes)
            while (frame := await stream.receive()) is not None:
                for part in _parse(frame):
                    reply.add(part)
            return reply.finish()
        finally:
            sending.cancel()
            stream.close()  # before any wait: that may be cancelled, too
            await asyncio.wait([sending])

    async def _send_parts(self, stream: CallStream) -> None:
        with suppress(PeerError):  # what breaks the sending ends the receiving, too
            for frame in self._frames():
                await stream.send(frame)
            await stream.finish()

    def _frames(self) -> Iterator[bytes]:
        for part in split_tensors(self._messages):
            yield self._frame([part])

    def _frame(self, tensors: Sequence[TensorMessage]) -> bytes:
        request = ExpertRequest(uid=self._uid, tensors=tensors, metadata=self._metadata)
        data: bytes = request.SerializeToString()
        return data


def _encode(argument: Tensor | None, server_dtype: torch.dtype) -> TensorMessage:
    if argument is None:
        return encode_tensor(absent_prompts())
    # The server computes in its own dtype anyway: send the smaller one.
    if argument.dtype.itemsize > server_dtype.itemsize:
        argument = argument.to(server_dtype)
    return encode_tensor(argument)


def _parse(frame: bytes) -> Sequence[TensorMessage]:
    tensors: Sequence[TensorMessage] = parse_message(ExpertResponse, frame).tensors
    return tensors
