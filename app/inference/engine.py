"""The engine: the models the gateway offers, and conversations with them."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeAlias
from weakref import WeakSet

import structlog

from app.inference.conversation import SwarmConversation
from app.inference.errors import (
    EngineStoppedError,
    ModelExistsError,
    PromptTooLongError,
    UnknownModelError,
)
from app.inference.memory_budget import MemoryBudget
from app.inference.model_loader import load_model, model_id_of
from app.inference.served_model import ServedModel
from app.inference.settings import EngineSettings
from swarm_client.connection import SwarmConnection
from swarm_client.session.events import EventListener
from swarm_protocol.detached_tasks import start_detached
from swarm_protocol.errors import CheckpointError

__all__ = ["EngineSettings", "SwarmEngine"]

log = structlog.get_logger(__name__)

CanaryKeeper: TypeAlias = Callable[[ServedModel], Coroutine[Any, Any, None]]
"""Makes canary tokens of a model, or hears of them, until cancelled."""


@dataclass(frozen=True, slots=True, eq=False)
class _Place:
    """A model and what there is of it only while it is offered, or is about to go."""

    model: ServedModel
    canary: asyncio.Task[None]
    conversations: WeakSet[SwarmConversation] = field(default_factory=WeakSet)


class SwarmEngine:
    """`Engine` on a swarm. Made by `start`; its canaries run until `close`.

    Args:
        keep_canary: by default each model makes its own tokens.
    """

    def __init__(
        self,
        connection: SwarmConnection,
        settings: EngineSettings,
        *,
        keep_canary: CanaryKeeper = lambda model: model.canary.run(),
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._keep_canary = keep_canary
        self._models: dict[str, ServedModel] = {}
        self._places: dict[str, _Place] = {}  # models that leave included
        self._coming: set[str] = set()
        self._is_closed = False
        self.models: Mapping[str, ServedModel] = MappingProxyType(self._models)
        self.memory = MemoryBudget(settings.memory_budget_bytes)

    @classmethod
    async def start(
        cls,
        connection: SwarmConnection,
        settings: EngineSettings,
        *,
        keep_canary: CanaryKeeper = lambda model: model.canary.run(),
    ) -> "SwarmEngine":
        """Load all models at once and watch their swarms. Does not wait for servers.

        Raises:
            CheckpointError: a model cannot be loaded, or two have the same id.
            NoDeviceError: this machine has no such device.
            MemoryBudgetError: they do not fit together.
        """
        ids = [model_id_of(source) for source in settings.models]
        if len(set(ids)) < len(ids):
            raise CheckpointError(f"two models have the same name: {', '.join(sorted(ids))}")
        engine = cls(connection, settings, keep_canary=keep_canary)
        outcomes = await asyncio.gather(
            *(engine.add(source, settings.dht_prefix) for source in settings.models),
            return_exceptions=True,
        )
        for failure in outcomes:
            if isinstance(failure, BaseException):
                await engine.close()
                raise failure
        return engine

    def model(self, name: str) -> ServedModel:
        """Return the model that callers know by this name.

        Raises:
            UnknownModelError: there is none.
        """
        if name not in self._models:
            raise UnknownModelError(name, self._models)
        return self._models[name]

    def num_conversations(self, model_id: str) -> int:
        """Return how many conversations are open with a model, or with one that leaves."""
        place = self._places.get(model_id)
        return 0 if place is None else len(_open_ones(place))

    async def add(self, source: str, dht_prefix: str | None = None) -> ServedModel:
        """Load one more model and offer it from then on. Does not wait for servers.

        Raises:
            ModelExistsError: there is one of this name, perhaps on its way in or out.
            MemoryBudgetError: it does not fit beside the others.
            CheckpointError: it cannot be loaded.
            EngineStoppedError: the engine was closed.
        """
        model_id = model_id_of(source)
        self._check_open()
        if model_id in self._places or model_id in self._coming:
            raise ModelExistsError(model_id)
        self._coming.add(model_id)
        try:
            model = await load_model(
                source, self._connection, self._settings, self.memory, dht_prefix=dht_prefix
            )
        finally:
            self._coming.discard(model_id)
        canary = start_detached(self._keep_canary(model), name=f"canary {model_id}")
        self._places[model_id] = _Place(model, canary)
        self._models[model_id] = model
        try:
            self._check_open()  # meanwhile
        except EngineStoppedError:
            await self.close()
            raise
        return model

    def remove(self, model_id: str, drain_s: float) -> Coroutine[Any, Any, None]:
        """Offer a model no more, from now on; to be awaited until nothing is left of it.

        Its conversations go on for `drain_s` seconds; those that are open then fail at their next
        token. When the awaiting is cancelled, they fail at once.

        Raises:
            UnknownModelError: there is none.
        """
        model = self.model(model_id)
        del self._models[model_id]
        place = self._places[model_id]
        place.canary.cancel()
        log.info("model_leaving", model=model.facts.source, num_open=len(_open_ones(place)))
        return self._drain(place, drain_s)

    async def open(
        self,
        model_id: str,
        *,
        max_length: int,
        tenant: str = "",
        on_event: EventListener | None = None,
    ) -> SwarmConversation:
        """Open a conversation; see `Engine.open`. Raises as `RemoteModel.open_session` does, too.

        Raises:
            EngineStoppedError: the engine was closed.
        """
        self._check_open()
        model = self.model(model_id)
        if max_length > model.facts.max_positions:
            raise PromptTooLongError(max_length, model.facts.max_positions)
        place = self._places[model_id]
        conversation = await SwarmConversation.open(
            model, max_length=max_length, tenant=tenant, on_event=on_event
        )
        place.conversations.add(conversation)
        if self._places.get(model_id) is not place:  # it was removed meanwhile
            await conversation.close()
            raise UnknownModelError(model_id, self._models)
        return conversation

    async def close(self) -> None:
        """Stop the canaries and the replicas; conversations fail at their next token. Idempotent.

        The connection stays open: it is not ours.
        """
        self._is_closed = True
        await asyncio.gather(*(self._stop(place) for place in self._places.values()))

    def _check_open(self) -> None:
        if self._is_closed:
            raise EngineStoppedError

    async def _drain(self, place: _Place, drain_s: float) -> None:
        try:
            async with asyncio.timeout(drain_s):
                while open_ones := _open_ones(place):
                    await open_ones[0].closed.wait()
        except TimeoutError:
            log.warning("model_cut_off", num_open=len(_open_ones(place)))
        finally:
            await self._empty(place)
        log.info("model_removed", model=place.model.facts.source)

    async def _empty(self, place: _Place) -> None:
        """Leave nothing of a model."""
        del self._places[place.model.id]
        await asyncio.gather(*(conversation.close() for conversation in _open_ones(place)))
        await self._stop(place)
        await self._connection.forget(place.model.remote)
        self.memory.give_back(place.model.id)

    async def _stop(self, place: _Place) -> None:
        place.canary.cancel()
        await asyncio.gather(place.canary, return_exceptions=True)
        await asyncio.gather(place.model.replicas.close(), place.model.matchers.close())


def _open_ones(place: _Place) -> list[SwarmConversation]:
    return [talk for talk in place.conversations if not talk.closed.is_set()]
