"""The synchronous face of a `RemoteModel`: owns loop thread, node and connection."""

import weakref
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Self, TypeAlias

from torch import Tensor

from swarm_client.blocking_session import BlockingSession
from swarm_client.connection import RemoteModel, SwarmConnection
from swarm_client.directory import ServerView
from swarm_client.loop_thread import LoopThread
from swarm_client.models.facts import ModelFacts
from swarm_client.session import EventListener
from swarm_client.settings import RoutingSettings
from swarm_client.training import ForwardResult, Gradients, Tape
from swarm_protocol.identifiers import PEER_MADDR, BlockRange
from swarm_protocol.node import Node

NodeFactory: TypeAlias = Callable[[], Awaitable[Node]]


def node_that_joins(initial_peers: Sequence[str]) -> NodeFactory:
    """Return a factory of hivemind nodes that join a swarm as clients.

    Raises:
        ValueError: no peers to join by, or what can be none.
    """
    peers = [initial_peers] if isinstance(initial_peers, str) else list(initial_peers)
    wrong = [peer for peer in peers if not PEER_MADDR.match(peer)]
    if wrong or not peers:
        raise ValueError(
            "initial_peers must list multiaddrs of peers, /ip4/…/p2p/…, at least one, got "
            f"{wrong[0] if wrong else 'none'!r:.80}"
        )

    async def start() -> Node:
        # Imported here: it takes half a second, and tests bring nodes of their own.
        from swarm_protocol.hivemind import HivemindNode, NodeSettings

        return await HivemindNode.start(NodeSettings(initial_peers=tuple(peers), client_mode=True))

    return start


class BlockingModel:
    """One model of a swarm, for code without an event loop. Closed with `close`, or with it."""

    def __init__(
        self, thread: LoopThread, node: Node, connection: SwarmConnection, model: RemoteModel
    ) -> None:
        self.facts = model.facts
        self._thread = thread
        self._model = model
        self._finalizer = weakref.finalize(self, _shut_down, thread, node, connection)

    @classmethod
    def connect(
        cls,
        facts: ModelFacts,
        node_factory: NodeFactory,
        settings: RoutingSettings,
        *,
        active_adapter: str | None = None,
    ) -> Self:
        """Start a node and look the model's servers up, those with the adapter if one is named.

        Raises:
            NodeError, DeadlineExceededError: the swarm cannot be joined.
        """
        thread = LoopThread()

        async def join() -> tuple[Node, SwarmConnection, RemoteModel]:
            node = await node_factory()
            connection = SwarmConnection(node, settings)
            try:
                return (
                    node,
                    connection,
                    await connection.watch(facts, active_adapter=active_adapter),
                )
            except BaseException:
                await node.close()
                raise

        try:
            node, connection, model = thread.run(join())
        except BaseException:
            thread.close()
            raise
        return cls(thread, node, connection, model)

    def open_session(
        self,
        *,
        max_length: int,
        batch_size: int = 1,
        blocks: BlockRange | None = None,
        on_event: EventListener | None = None,
    ) -> BlockingSession:
        """Open an inference session; see `RemoteModel.open_session`.

        `on_event` is called in the thread of the event loop.
        """
        opening = self._model.open_session(
            max_length=max_length, batch_size=batch_size, blocks=blocks, on_event=on_event
        )
        return BlockingSession(self._thread.run(opening), self._thread)

    def run_forward(
        self, hidden: Tensor, prompts: Tensor | None, blocks: BlockRange
    ) -> ForwardResult:
        """Run hidden states through blocks; see `RemoteModel.run_forward`."""
        return self._thread.run(self._model.run_forward(hidden, prompts, blocks))

    def run_backward(self, tape: Tape, grad_outputs: Tensor) -> Gradients:
        """Return the gradients of a forward pass; see `RemoteModel.run_backward`."""
        return self._thread.run(self._model.run_backward(tape, grad_outputs))

    def servers(self) -> tuple[ServerView, ...]:
        """Return the servers that are online or joining."""

        async def read() -> tuple[ServerView, ...]:
            return self._model.servers()

        return self._thread.run(read())

    def close(self) -> None:
        """Leave the swarm and end the thread. Idempotent."""
        self._finalizer()


def _shut_down(thread: LoopThread, node: Node, connection: SwarmConnection) -> None:
    async def leave() -> None:
        await connection.close()
        await node.close()

    with suppress(RuntimeError):  # collected in the loop's own thread: nobody may wait there
        thread.run(leave())
    thread.close()
