"""A server with blocks that can be differentiated, which speaks the Petals dialect of passes.

Block `i` is `h + tanh(h @ weights[i])`, so that every block and every prompt shows in the result.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from swarm_client.blocking_model import BlockingModel
from swarm_client.connection import RemoteModel, SwarmConnection
from swarm_client.settings import RoutingSettings
from swarm_protocol.argument_packing import unpack_arguments
from swarm_protocol.identifiers import BlockChain, BlockRange, PeerId
from swarm_protocol.memory_node import MemoryNetwork
from swarm_protocol.messages import ExpertRequest, ExpertResponse, TensorMessage, parse_message
from swarm_protocol.metadata import TrainingMetadata
from swarm_protocol.methods import (
    RPC_BACKWARD,
    RPC_BACKWARD_STREAM,
    RPC_FORWARD,
    RPC_FORWARD_STREAM,
)
from swarm_protocol.node import Node, ServedStream
from swarm_protocol.tensor_codec import decode_tensor, encode_tensor, is_absent
from swarm_protocol.tensor_parts import PartAssembler, split_tensors
from tests.unit.swarm_client.scripted_server import FACTS, ScriptedServer

ALL = BlockRange(0, FACTS.num_blocks)
SETTINGS = RoutingSettings(retry_delay_s=0.001, request_timeout_s=5, wait_for_blocks_s=0)


def local_blocks(hidden: Tensor, prompts: Tensor | None = None, blocks: BlockRange = ALL) -> Tensor:
    """Return what the blocks make of `hidden`, here; `prompts[0]` belongs to `blocks.start`."""
    for index in range(blocks.start, blocks.end):
        if prompts is not None:
            added = prompts[index - blocks.start].to(hidden)
            num_left = hidden.shape[1] - added.shape[1]
            hidden = hidden + torch.nn.functional.pad(added, (0, 0, 0, num_left))
        generator = torch.Generator().manual_seed(index)
        size = hidden.shape[2]
        weights = torch.randn(size, size, generator=generator, dtype=torch.float64)
        hidden = hidden + torch.tanh(hidden @ weights.to(hidden))
    return hidden


class TrainingServer(ScriptedServer):
    """Records what it was asked, and can be told to misbehave.

    Attributes:
        calls: `method blocks` of every call, in order, e.g. `forward 0:2`; with `_stream` for the
            streaming forms.
        shapes: of the hidden states of every call.
        before: runs before a call is answered, with its entry of `calls`; may raise.
        change: may change what is returned.
        is_silent: takes what is sent and answers nothing, for ever.
        may_answer: unary calls wait for it; set unless a test clears it.
        most_running: unary calls that were under way at once, at most.
    """

    def __init__(self, network: MemoryNetwork, name: str, blocks: str) -> None:
        super().__init__(network, name, blocks)
        self.calls: list[str] = []
        self.shapes: list[tuple[int, ...]] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.most_running = 0
        self._num_running = 0
        self.before: Callable[[str], None] = lambda call: None
        self.change: Callable[[list[Tensor]], list[Tensor]] = lambda tensors: tensors

    @classmethod
    async def start(cls, network: MemoryNetwork, name: str, blocks: str) -> "TrainingServer":
        server = cls(network, name, blocks)
        await server.node.serve_unary("TransformerConnectionHandler.rpc_info", server._describe)
        for method in (RPC_FORWARD, RPC_BACKWARD):
            await server.node.serve_unary(method, server._unary(method))
        for method in (RPC_FORWARD_STREAM, RPC_BACKWARD_STREAM):
            await server.node.serve_stream(method, server._stream(method))
        await server.announce()
        return server

    def compute_in(self, dtype: torch.dtype) -> None:
        """Compute, and describe itself, so; before the client has asked."""
        self.description = replace(self.description, dtype=dtype)

    def _unary(self, method: str) -> Callable[[bytes, PeerId], Awaitable[bytes]]:
        async def answer(data: bytes, caller: PeerId) -> bytes:
            self._num_running += 1
            self.most_running = max(self.most_running, self._num_running)
            await self.may_answer.wait()
            if self.is_silent:
                await asyncio.Event().wait()
            request = parse_message(ExpertRequest, data)
            tensors = self._compute(method, request, list(request.tensors))
            self._num_running -= 1
            reply: bytes = ExpertResponse(tensors=tensors).SerializeToString()
            return reply

        return answer

    def _stream(self, method: str) -> Callable[[ServedStream], Awaitable[None]]:
        async def answer(stream: ServedStream) -> None:
            assembler = PartAssembler(max_tensors=3, max_bytes=2**27)
            first: ExpertRequest | None = None
            while (frame := await stream.receive()) is not None:
                request = parse_message(ExpertRequest, frame)
                first = first or request
                assert request.uid == first.uid
                assert len(frame) < 2**22 + 2**16
                for part in request.tensors:
                    assembler.add(part)
            assert first is not None
            for part in split_tensors(self._compute(method, first, assembler.finish())):
                await stream.send(ExpertResponse(tensors=[part]).SerializeToString())

        return answer

    def _compute(
        self, method: str, request: ExpertRequest, messages: list[TensorMessage]
    ) -> list[TensorMessage]:
        blocks = BlockChain.parse(request.uid).blocks
        assert self.blocks.covers(blocks)
        assert not any(message.requires_grad for message in messages)
        metadata = TrainingMetadata.parse(request.metadata)
        tensors = unpack_arguments([decode_tensor(m) for m in messages], metadata.args_structure)
        hidden, *grad_outputs, prompts = (tensor for tensor in tensors if tensor is not None)
        call = f"{method.partition('.rpc_')[2]} {blocks}"
        self.calls.append(call)
        self.shapes.append(tuple(hidden.shape))
        self.before(call)
        outputs = self._run(blocks, hidden, grad_outputs, None if is_absent(prompts) else prompts)
        return [encode_tensor(tensor) for tensor in self.change(outputs)]

    def _run(
        self, blocks: BlockRange, hidden: Tensor, grads: Sequence[Tensor], prompts: Tensor | None
    ) -> list[Tensor]:
        dtype = self.description.dtype
        inputs = [t.to(dtype).requires_grad_() for t in (hidden, prompts) if t is not None]
        output = local_blocks(inputs[0], inputs[1] if prompts is not None else None, blocks)
        if not grads:
            return [output.detach()]
        return list(torch.autograd.grad(output, inputs, grads[0].to(dtype)))


class TrainingSwarm:
    """Training servers, and a client that watches them."""

    def __init__(
        self, network: MemoryNetwork, servers: list[TrainingServer], model: RemoteModel
    ) -> None:
        self.network = network
        self.servers = servers
        self.model = model

    def kill_who_gets(self, *calls: str) -> None:
        """For each of these calls, let the first server that gets it vanish."""
        waiting = list(calls)

        def hook(server: TrainingServer) -> Callable[[str], None]:
            def before(call: str) -> None:
                if call in waiting:
                    waiting.remove(call)
                    self.network.cut(server.peer)
                    raise RuntimeError("killed")

            return before

        for server in self.servers:
            server.before = hook(server)

    async def add(self, *splits: str) -> list[TrainingServer]:
        """Start more servers, which the client has not seen yet."""
        late = [
            await TrainingServer.start(self.network, f"s{len(self.servers) + index}", blocks)
            for index, blocks in enumerate(splits)
        ]
        self.servers += late
        return late

    def calls(self) -> list[list[str]]:
        return [server.calls for server in self.servers]

    def banned(self) -> list[str]:
        return [view.peer for view in self.model.servers() if view.is_banned]


@asynccontextmanager
async def training_swarm(
    splits: Sequence[str],
    settings: RoutingSettings = SETTINGS,
    network: MemoryNetwork | None = None,
) -> AsyncIterator[TrainingSwarm]:
    """Start a server per split, and a client."""
    network = network or MemoryNetwork()
    servers = await start_servers(network, splits)
    connection = SwarmConnection(network.node("client"), settings)
    try:
        yield TrainingSwarm(network, servers, await connection.watch(FACTS))
    finally:
        await connection.close()
        for node in network.nodes.values():
            await node.close()


@contextmanager
def blocking_swarm(
    splits: Sequence[str], settings: RoutingSettings = SETTINGS
) -> Iterator[tuple[BlockingModel, list[TrainingServer]]]:
    """Start a server per split in the loop thread of a client without an event loop."""
    network = MemoryNetwork()
    servers: list[TrainingServer] = []

    async def start() -> Node:
        servers.extend(await start_servers(network, splits))
        return network.node("client")

    model = BlockingModel.connect(FACTS, start, settings)
    try:
        yield model, servers
    finally:
        model.close()


async def start_servers(network: MemoryNetwork, splits: Sequence[str]) -> list[TrainingServer]:
    return [
        await TrainingServer.start(network, f"s{index}", blocks)
        for index, blocks in enumerate(splits)
    ]


def batch(batch_size: int, num_tokens: int, *, num_prompts: int = 0) -> tuple[Tensor, Tensor]:
    """Return random hidden states, and deep prompts (none of them by default)."""
    generator = torch.Generator().manual_seed(batch_size * num_tokens)
    hidden = torch.randn(batch_size, num_tokens, FACTS.hidden_size, generator=generator)
    shape = (FACTS.num_blocks, batch_size, num_prompts, FACTS.hidden_size)
    return hidden, torch.randn(shape, generator=generator)


def local_gradients(
    hidden: Tensor, grad: Tensor, prompts: Tensor | None = None, blocks: BlockRange = ALL
) -> list[Tensor]:
    """Return the gradients of hidden states and prompts, as autograd finds them here."""
    inputs = [t.detach().requires_grad_() for t in (hidden, prompts) if t is not None]
    output = local_blocks(inputs[0], inputs[1] if prompts is not None else None, blocks)
    return list(torch.autograd.grad(output, inputs, grad))


def assert_close(actual: Tensor | None, expected: Tensor) -> None:
    """float32: the order of sums may differ by a few units in the last place."""
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)
