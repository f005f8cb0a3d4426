"""The calling side of `rpc_inference`, frame by frame, without any client of ours."""

from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count
from typing import Protocol

import torch
from torch import Tensor

from swarm_protocol.argument_packing import structure_of
from swarm_protocol.errors import PeerUnreachableError
from swarm_protocol.identifiers import BlockChain, BlockRange, PeerId
from swarm_protocol.messages import ExpertRequest, ExpertResponse, parse_message
from swarm_protocol.metadata import InferenceMetadata
from swarm_protocol.methods import RPC_INFERENCE
from swarm_protocol.node import CallStream, Node
from swarm_protocol.tensor_codec import (
    absent_hypo_ids,
    absent_prompts,
    decode_tensor,
    encode_tensor,
)

_ids = count()


class Callee(Protocol):
    """A server of ours or of others."""

    @property
    def peer_id(self) -> PeerId: ...
    @property
    def dht_prefix(self) -> str: ...
    @property
    def blocks(self) -> BlockRange: ...


def make_frame(uid: str, tensors: list[Tensor], metadata: InferenceMetadata) -> bytes:
    """Return the bytes of one request."""
    frame: bytes = ExpertRequest(
        uid=uid,
        tensors=[encode_tensor(tensor) for tensor in tensors],
        metadata=metadata.to_wire(),
    ).SerializeToString()
    return frame


@dataclass
class RawSession:
    """One stream to one server. The first step carries `opening`, later ones do not."""

    stream: CallStream
    uid: str
    opening: InferenceMetadata
    is_open: bool = False

    @classmethod
    async def start(
        cls,
        node: Node,
        server: Callee,
        *,
        blocks: BlockRange | None = None,
        max_length: int = 32,
    ) -> "RawSession":
        """Open a stream; nothing is sent yet."""
        chain = BlockChain(server.dht_prefix, blocks or server.blocks)
        stream = await node.open_stream(server.peer_id, RPC_INFERENCE)
        opening = InferenceMetadata(
            session_id=f"session-{next(_ids)}",
            max_length=max_length,
            args_structure=structure_of(3),
        )
        return cls(stream, str(chain), opening)

    async def step(
        self,
        hidden: Tensor,
        *,
        prompts: Tensor | None = None,
        hypo_ids: Tensor | None = None,
        start_from_position: int | None = None,
        step_id: str | None = None,
    ) -> Tensor:
        """Send one step and return the reply's tensor."""
        await self.send(hidden, prompts, hypo_ids, start_from_position, step_id)
        return await self.receive()

    async def send(
        self,
        hidden: Tensor,
        prompts: Tensor | None = None,
        hypo_ids: Tensor | None = None,
        start_from_position: int | None = None,
        step_id: str | None = None,
    ) -> None:
        """Send one step."""
        base = (
            InferenceMetadata(session_id=self.opening.session_id) if self.is_open else self.opening
        )
        self.is_open = True
        metadata = replace(
            base,
            step_id=step_id or f"step-{next(_ids)}",
            start_from_position=start_from_position,
        )
        tensors = [
            hidden,
            absent_prompts() if prompts is None else prompts,
            absent_hypo_ids() if hypo_ids is None else hypo_ids,
        ]
        await self.stream.send(make_frame(self.uid, tensors, metadata))

    async def receive(self) -> Tensor:
        """Return the next reply's tensor."""
        frame = await self.stream.receive()
        assert frame is not None, "the server has ended the stream"
        (message,) = parse_message(ExpertResponse, frame).tensors
        return decode_tensor(message)

    async def end(self) -> None:
        """End the session as clients do, and wait until the server has ended the stream."""
        await self.stream.send(b"")
        await self.stream.finish()
        with suppress(PeerUnreachableError):  # it was gone before our end of the stream came
            assert await self.stream.receive() is None


def hidden_states(batch: int, num_tokens: int, *, seed: int = 0) -> Tensor:
    """Return random hidden states of the tiny Llama, [batch, num_tokens, 64]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, num_tokens, 64, generator=generator)
