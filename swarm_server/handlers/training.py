"""`rpc_forward`, `rpc_backward` and their `_stream` forms. Source: PETALS_PROTOCOL §2.6 and §8.

A unary request and its reply fit one message each. In a stream every message holds one part of a
tensor; the first one's chain and metadata count. Nothing is kept between requests.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import CancelledError
from contextlib import asynccontextmanager
from typing import Final

from torch import Tensor

from swarm_protocol.errors import MalformedMessageError, SwarmError
from swarm_protocol.identifiers import PeerId
from swarm_protocol.logs import get_logger
from swarm_protocol.messages import ExpertRequest, ExpertResponse, TensorMessage, parse_message
from swarm_protocol.metadata import TrainingMetadata
from swarm_protocol.node import MAX_UNARY_BYTES, ServedStream
from swarm_protocol.tensor_codec import encode_tensor
from swarm_protocol.tensor_parts import PartAssembler, split_tensors
from swarm_server.engine import ComputeThread, Span
from swarm_server.engine.compute_thread import Urgency
from swarm_server.engine.training import backward, forward
from swarm_server.errors import NotServedError, ReplyTooLargeError, StepFailedError
from swarm_server.handlers.opening import ServedModel
from swarm_server.handlers.training_admission import TrainingAdmission
from swarm_server.handlers.training_request import (
    MAX_TENSORS,
    Direction,
    TrainingPass,
    decode_tensors,
    max_request_bytes,
    read_pass,
)

log = get_logger(__name__)

_ENVELOPE_BYTES: Final = 4096
"""Room for all but the tensors in a unary reply."""


class TrainingHandler:
    """Computes forward and backward passes for whoever asks."""

    def __init__(
        self,
        served: ServedModel,
        span: Span,
        compute: ComputeThread,
        admission: TrainingAdmission,
    ) -> None:
        self._served = served
        self._span = span
        self._compute = compute
        self._admission = admission

    async def forward(self, request: bytes, caller: PeerId) -> bytes:
        """Answer `rpc_forward`: hidden states after the blocks. Raises SwarmError."""
        return await self._answer(Direction.FORWARD, request, caller)

    async def backward(self, request: bytes, caller: PeerId) -> bytes:
        """Answer `rpc_backward`: gradients of hidden states and prompts. Raises SwarmError."""
        return await self._answer(Direction.BACKWARD, request, caller)

    async def serve_forward(self, stream: ServedStream) -> None:
        """Serve `rpc_forward_stream`; see `forward`."""
        await self._serve(Direction.FORWARD, stream)

    async def serve_backward(self, stream: ServedStream) -> None:
        """Serve `rpc_backward_stream`; see `backward`."""
        await self._serve(Direction.BACKWARD, stream)

    async def _answer(self, direction: Direction, data: bytes, caller: PeerId) -> bytes:
        async with self._turn(direction, caller):
            request = parse_message(ExpertRequest, data)
            work = await self._read(direction, request, request.tensors)
            reply_bytes = work.reply_bytes(self._span.dtype)
            if reply_bytes > MAX_UNARY_BYTES - _ENVELOPE_BYTES:
                raise ReplyTooLargeError(reply_bytes)
            reply = await self._encode(work, await self._compute_pass(work))
            frame: bytes = ExpertResponse(tensors=reply).SerializeToString()
            return frame

    async def _serve(self, direction: Direction, stream: ServedStream) -> None:
        async with self._turn(direction, stream.caller):
            request, messages = await self._receive(stream)
            work = await self._read(direction, request, messages)
            reply = await self._encode(work, await self._compute_pass(work))
            for part in split_tensors(reply):
                await stream.send(ExpertResponse(tensors=[part]).SerializeToString())

    @asynccontextmanager
    async def _turn(self, direction: Direction, caller: PeerId) -> AsyncIterator[None]:
        """Hold a turn; errors leave as SwarmError, ours without their text."""
        try:
            async with self._admission.admit():
                yield
        except SwarmError as error:
            log.warning(
                "training_refused", peer=caller, code=error.code, direction=direction.name.lower()
            )
            raise
        except Exception as error:
            log.exception("training_crashed", peer=caller, direction=direction.name.lower())
            raise StepFailedError from error

    async def _receive(self, stream: ServedStream) -> tuple[ExpertRequest, list[TensorMessage]]:
        """Return the first message of a stream, and the tensors of all."""
        frame = await stream.receive()
        if frame is None:
            raise MalformedMessageError("the stream has no message")
        first = parse_message(ExpertRequest, frame)
        max_bytes = max_request_bytes(self._served, self._served.find_blocks(first.uid))
        assembler = PartAssembler(max_tensors=MAX_TENSORS, max_bytes=max_bytes)
        message = first
        while frame is not None:
            message = parse_message(ExpertRequest, frame)
            if message.uid not in ("", first.uid):
                raise NotServedError.blocks(message.uid)
            for part in message.tensors:
                assembler.add(part)
            frame = await stream.receive()
        return first, assembler.finish()

    async def _read(
        self, direction: Direction, request: ExpertRequest, messages: Sequence[TensorMessage]
    ) -> TrainingPass:
        served = self._served
        blocks = served.find_blocks(request.uid)
        metadata = TrainingMetadata.parse(request.metadata)
        tensors = await asyncio.to_thread(
            decode_tensors, messages, max_request_bytes(served, blocks)
        )
        return read_pass(direction, served, request.uid, metadata, tensors, self._span.dtype)

    async def _compute_pass(self, work: TrainingPass) -> list[Tensor]:
        """Return the results; when the caller has left, computing ends with the block that runs."""
        running = _Running(self._span, work, self._compute)
        try:
            return await asyncio.wrap_future(self._compute.submit(running.run, Urgency.TRAINING))
        finally:
            running.is_abandoned = True

    async def _encode(self, work: TrainingPass, tensors: list[Tensor]) -> list[TensorMessage]:
        return await asyncio.to_thread(
            lambda: [encode_tensor(*pair) for pair in zip(tensors, work.codecs, strict=True)]
        )


class _Running:
    """A pass on the compute thread, which gives way to inference between blocks."""

    def __init__(self, span: Span, work: TrainingPass, compute: ComputeThread) -> None:
        self._span = span
        self._work = work
        self._compute = compute
        self.is_abandoned = False

    def run(self) -> list[Tensor]:
        """Return what the caller gets."""
        span, work = self._span, self._work
        if work.grad_outputs is None:
            return [
                forward(
                    *(span, work.blocks, work.hidden, work.prompts),
                    adapter=work.adapter,
                    pause=self._pause,
                )
            ]
        gradients = backward(
            *(span, work.blocks, work.hidden, work.grad_outputs, work.prompts),
            adapter=work.adapter,
            pause=self._pause,
        )
        return [gradient for gradient in gradients if gradient is not None]

    def _pause(self) -> None:
        if self.is_abandoned:
            raise CancelledError
        self._compute.give_way()
