"""The calling side of `rpc_forward` and `rpc_backward`, frame by frame, without our client."""

from collections.abc import Sequence

import torch
from torch import Tensor

from swarm_protocol.argument_packing import structure_of
from swarm_protocol.identifiers import BlockChain, BlockRange
from swarm_protocol.messages import ExpertRequest, ExpertResponse, parse_message
from swarm_protocol.metadata import TrainingMetadata
from swarm_protocol.methods import (
    RPC_BACKWARD,
    RPC_BACKWARD_STREAM,
    RPC_FORWARD,
    RPC_FORWARD_STREAM,
)
from swarm_protocol.node import Node
from swarm_protocol.tensor_codec import absent_prompts, decode_tensor, encode_tensor
from swarm_protocol.tensor_parts import PartAssembler, split_tensors
from swarm_server.server import BlockServer


async def call(
    node: Node,
    server: BlockServer,
    method: str,
    tensors: Sequence[Tensor],
    *,
    blocks: BlockRange | None = None,
    metadata: TrainingMetadata | None = None,
) -> list[Tensor]:
    """Make one request in the form that `method` wants and return the reply's tensors."""
    uid = str(BlockChain(server.dht_prefix, blocks or server.blocks))
    data = (metadata or TrainingMetadata(args_structure=structure_of(len(tensors)))).to_wire()
    messages = [encode_tensor(tensor) for tensor in tensors]
    if not method.endswith("_stream"):
        request = ExpertRequest(uid=uid, tensors=messages, metadata=data)
        reply = await node.call(server.peer_id, method, request.SerializeToString())
        return [decode_tensor(item) for item in parse_message(ExpertResponse, reply).tensors]
    stream = await node.open_stream(server.peer_id, method)
    for part in split_tensors(messages):
        request = ExpertRequest(uid=uid, tensors=[part], metadata=data)
        await stream.send(request.SerializeToString())
    await stream.finish()
    assembler = PartAssembler(max_tensors=2, max_bytes=64 << 20)
    while (frame := await stream.receive()) is not None:
        for part in parse_message(ExpertResponse, frame).tensors:
            assembler.add(part)
    return [decode_tensor(item) for item in assembler.finish()]


async def run_forward(
    node: Node,
    server: BlockServer,
    hidden: Tensor,
    prompts: Tensor | None = None,
    *,
    streams: bool = False,
    blocks: BlockRange | None = None,
) -> Tensor:
    """Return the hidden states after the blocks."""
    method = RPC_FORWARD_STREAM if streams else RPC_FORWARD
    tensors = [hidden, absent_prompts() if prompts is None else prompts]
    (output,) = await call(node, server, method, tensors, blocks=blocks)
    return output


async def run_backward(
    node: Node,
    server: BlockServer,
    hidden: Tensor,
    grad_outputs: Tensor,
    prompts: Tensor | None = None,
    *,
    streams: bool = False,
) -> list[Tensor]:
    """Return the gradients of hidden states and, if given, of prompts."""
    method = RPC_BACKWARD_STREAM if streams else RPC_BACKWARD
    tensors = [hidden, grad_outputs, absent_prompts() if prompts is None else prompts]
    return await call(node, server, method, tensors)


def random_tensor(*shape: int, seed: int = 0) -> Tensor:
    """Return normal random numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
