"""A server that speaks the Petals dialect and can be told to misbehave, on a memory network.

Its blocks are no transformer: block `i` adds `i + 1` to every value. So the output tells which
blocks ran, each of them once.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from swarm_client.models.facts import ModelFacts
from swarm_protocol.argument_packing import unpack_arguments
from swarm_protocol.identifiers import BlockChain, BlockRange, PeerId, make_uid
from swarm_protocol.memory_node import MemoryNetwork
from swarm_protocol.messages import (
    ExpertInfo,
    ExpertRequest,
    ExpertResponse,
    ExpertUID,
    parse_message,
)
from swarm_protocol.metadata import InferenceMetadata
from swarm_protocol.methods import RPC_INFERENCE, RPC_INFO
from swarm_protocol.node import RecordEntry, ServedStream
from swarm_protocol.records import ServerRecord, ServerState
from swarm_protocol.server_info import PeerDescription
from swarm_protocol.tensor_codec import decode_tensor, encode_tensor

FACTS = ModelFacts(
    source="test",
    model_type="llama",
    dht_prefix="test",
    num_blocks=4,
    hidden_size=8,
    vocab_size=10,
    max_positions=512,
    eos_token_ids=(2,),
    bos_token_id=1,
    pad_token_id=0,
)


def expected_output(hidden: Tensor, blocks: BlockRange | None = None) -> Tensor:
    """Return what the blocks make of `hidden`; by default, all of them."""
    blocks = blocks or BlockRange(0, FACTS.num_blocks)
    return hidden + sum(index + 1 for index in range(blocks.start, blocks.end))


class ScriptedServer:
    """Serves blocks, and records what it was asked.

    Attributes:
        transform: may change the reply of a step, raise what the caller gets as an error, or
            return None to end the session.
        delay_s: before each reply.
        is_silent: takes what is sent and answers nothing, for ever.
        steps: metadata of every step, as parsed.
        inputs: hidden states of every step, as received.
        extras: deep prompts and hypo_ids of every step.
        num_ended: sessions that a caller ended in good order.
        num_infos: answered `rpc_info`s.
    """

    def __init__(self, network: MemoryNetwork, name: str, blocks: str) -> None:
        self.node = network.node(name)
        self.blocks = BlockRange.parse(blocks)
        self.record = ServerRecord(
            state=ServerState.ONLINE,
            throughput=1.0,
            start_block=self.blocks.start,
            end_block=self.blocks.end,
        )
        self.description = PeerDescription(
            version="test", hidden_size=FACTS.hidden_size, dtype=torch.float32
        )
        self.transform: Callable[[Tensor], Tensor | None] = lambda hidden: hidden
        self.delay_s = 0.0
        self.is_silent = False
        self.steps: list[InferenceMetadata] = []
        self.inputs: list[Tensor] = []
        self.extras: list[list[Tensor | None]] = []
        self.num_ended = 0
        self.num_infos = 0

    @classmethod
    async def start(cls, network: MemoryNetwork, name: str, blocks: str) -> "ScriptedServer":
        server = cls(network, name, blocks)
        await server.node.serve_unary(RPC_INFO, server._describe)
        await server.node.serve_stream(RPC_INFERENCE, server._serve)
        await server.announce()
        return server

    @property
    def peer(self) -> PeerId:
        return self.node.peer_id

    async def announce(self, state: ServerState = ServerState.ONLINE) -> None:
        self.record = self.record.model_copy(update={"state": state})
        entries = [
            RecordEntry(make_uid(FACTS.dht_prefix, index), self.peer, self.record.to_wire())
            for index in range(self.blocks.start, self.blocks.end)
        ]
        await self.node.store(entries, ttl_s=60)

    def can_roll_back(self) -> None:
        self.description = replace(self.description, can_roll_back=True)

    def fail_with(self, text: str) -> None:
        def refuse(hidden: Tensor) -> Tensor:
            raise RuntimeError(text)

        self.transform = refuse

    async def _describe(self, request: bytes, caller: PeerId) -> bytes:
        uid = parse_message(ExpertUID, request).uid
        assert uid == make_uid(FACTS.dht_prefix, int(uid.rpartition(".")[2]))
        self.num_infos += 1
        reply: bytes = ExpertInfo(serialized_info=self.description.to_wire()).SerializeToString()
        return reply

    async def _serve(self, stream: ServedStream) -> None:
        structure: object = None
        while (frame := await stream.receive()) is not None:
            request = parse_message(ExpertRequest, frame)
            if not request.tensors:
                self.num_ended += 1
                return
            metadata = InferenceMetadata.parse(request.metadata)
            structure = structure or metadata.args_structure
            tensors = [decode_tensor(message) for message in request.tensors]
            hidden, *extras = unpack_arguments(tensors, structure)
            assert hidden is not None
            self.steps.append(metadata)
            self.inputs.append(hidden)
            self.extras.append(extras)
            if self.is_silent:
                await asyncio.Event().wait()
            await asyncio.sleep(self.delay_s)
            output = expected_output(
                hidden.to(self.description.dtype), BlockChain.parse(request.uid).blocks
            )
            reply = self.transform(output)
            if reply is None:
                return
            response = ExpertResponse(tensors=[encode_tensor(reply)])
            await stream.send(response.SerializeToString())
