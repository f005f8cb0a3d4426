"""The client's connection to a swarm: one node, any number of models.

Everything runs in the caller's event loop. A `RemoteModel` keeps a live map of its servers in the
background and opens inference sessions.
"""

import asyncio
from weakref import WeakSet

from torch import Tensor

from swarm_client.directory import ServerView
from swarm_client.model_servers import ModelServers
from swarm_client.models.facts import ModelFacts
from swarm_client.session.events import EventListener
from swarm_client.session.inference_session import InferenceSession
from swarm_client.session.route_search import RouteSearch
from swarm_client.session.step_checks import (
    check_blocks,
    check_hidden,
    check_opening,
    check_prompts,
)
from swarm_client.settings import RoutingSettings
from swarm_client.training import ForwardResult, Gradients, Tape
from swarm_protocol.detached_tasks import start_detached
from swarm_protocol.identifiers import BlockRange
from swarm_protocol.node import Node


class RemoteModel:
    """One model, as the swarm serves it. Made by `SwarmConnection.watch`."""

    def __init__(
        self,
        node: Node,
        facts: ModelFacts,
        settings: RoutingSettings,
        *,
        active_adapter: str | None = None,
    ) -> None:
        self.facts = facts
        self.active_adapter = active_adapter
        self._settings = settings
        self._servers = ModelServers(node, facts, settings, active_adapter=active_adapter)
        self._passes = self._servers.passes()
        self._watcher: asyncio.Task[None] | None = None
        self._sessions: WeakSet[InferenceSession] = WeakSet()

    def servers(self) -> tuple[ServerView, ...]:
        """Return the servers that are online or joining, by start of span and peer id."""
        return self._servers.directory.views(_now())

    def missing_blocks(self) -> tuple[BlockRange, ...]:
        """Return the blocks that no online server holds; servers that just failed do not count."""
        return self._servers.directory.missing_blocks(_now())

    def history_bytes(self) -> int:
        """Return the size of all inputs that open sessions keep for replays."""
        return sum(one.history_bytes for one in self._sessions if not one.is_closed)

    async def refresh(self) -> None:
        """Look the servers up now.

        Raises:
            DeadlineExceededError: the DHT did not answer in time; what was known stays.
            NodeError: our own node has stopped.
        """
        await self._servers.refresh()

    async def open_session(
        self,
        *,
        max_length: int,
        batch_size: int = 1,
        blocks: BlockRange | None = None,
        tenant: str = "",
        wait_s: float = 0.0,
        on_event: EventListener | None = None,
    ) -> InferenceSession:
        """Open a session over the best route; when a server fails, over another one.

        It keeps its inputs, up to `max_history_bytes` of the settings, to make up for servers
        that are lost later.

        Args:
            max_length: tokens that each row may have at most, >= 1; 32 bits.
            batch_size: rows that the caller means to use; helps to find servers with memory.
            blocks: those to run through; by default all.
            tenant: on whose behalf, in at most 256 characters. Servers are fair between tenants,
                and share the KV memory of equal prefixes within one.
            wait_s: how long to wait for servers of blocks that nobody serves; by default not at
                all. When servers are lost later, and tokens have run, the settings say it.
            on_event: is told, on the event loop, of servers lost, waited for and replaced. It
                must not block.

        Raises:
            ValueError: an argument does not fit.
            NoRouteError: online servers do not cover the blocks.
            PeerError: servers failed one after the other, until the retries ran out.
            DeadlineExceededError, NodeError: the DHT or our own node failed.
        """
        check_opening(max_length=max_length, batch_size=batch_size, tenant=tenant)
        session = await InferenceSession.open(
            RouteSearch(
                self._servers,
                max_length=max_length,
                tenant=tenant,
                opening_wait_s=wait_s,
                hedge_after_s=self._settings.hedge_after_s,
                on_event=on_event,
            ),
            check_blocks(blocks, self.facts),
            self.facts,
            self._settings,
            num_rows=batch_size,
        )
        self._sessions.add(session)
        return session

    async def run_forward(
        self,
        hidden: Tensor,
        prompts: Tensor | None = None,
        blocks: BlockRange | None = None,
    ) -> ForwardResult:
        """Run hidden states through blocks, outside any session; see `TrainingPasses.forward`.

        Args:
            hidden: `[batch, num_tokens, hidden_size]`.
            prompts: deep prompts `[len(blocks), batch or 1, num_prompts, hidden_size]`.
            blocks: those to run through; by default all.

        Raises:
            ValueError: a shape or dtype does not fit; nothing was sent.
            NoRouteError, PeerError, RequestTooLargeError: see `TrainingPasses.forward`.
        """
        blocks = check_blocks(blocks, self.facts)
        check_hidden(hidden, self.facts, batch_size=None)
        if prompts is not None:
            check_prompts(prompts, hidden, len(blocks))
        return await self._passes.forward(hidden, prompts, blocks)

    async def run_backward(self, tape: Tape, grad_outputs: Tensor) -> Gradients:
        """Return the gradients of a forward pass; see `TrainingPasses.backward`."""
        return await self._passes.backward(tape, grad_outputs)

    async def start(self) -> None:
        """Look the servers up, then keep doing so in the background."""
        await self._servers.refresh()
        self._watcher = start_detached(self._servers.watch.keep_watch())

    async def stop(self) -> None:
        """End the background task, and the streams that sessions share. Idempotent."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.wait([self._watcher])
        await self._servers.close()


class SwarmConnection:
    """Access to the models of a swarm through one node, which stays the caller's to close."""

    def __init__(self, node: Node, settings: RoutingSettings | None = None) -> None:
        self._node = node
        self._settings = settings or RoutingSettings()
        self._models: list[RemoteModel] = []

    async def watch(self, facts: ModelFacts, *, active_adapter: str | None = None) -> RemoteModel:
        """Return a model whose servers have been looked up once and are kept up to date.

        Args:
            facts: of the model.
            active_adapter: to be used by all its sessions and calls, on servers that announce it;
                None is the bare model.

        Raises:
            DeadlineExceededError, NodeError: the DHT or our own node failed.
        """
        model = RemoteModel(self._node, facts, self._settings, active_adapter=active_adapter)
        await model.start()
        self._models.append(model)
        return model

    async def forget(self, model: RemoteModel) -> None:
        """Stop watching a model, after its sessions were closed. Idempotent."""
        if model in self._models:
            self._models.remove(model)
            await model.stop()

    async def close(self) -> None:
        """End background tasks and shared streams, after the sessions were closed. Idempotent."""
        while self._models:
            await self._models.pop().stop()


def _now() -> float:
    return asyncio.get_running_loop().time()
