"""The engine: the models the gateway offers, and conversations with them."""

import asyncio
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from app.inference.conversation import SwarmConversation
from app.inference.errors import EngineStoppedError, PromptTooLongError, UnknownModelError
from app.inference.model_loader import load_model, model_id_of
from app.inference.served_model import ServedModel
from app.inference.settings import EngineSettings
from swarm_client.connection import SwarmConnection
from swarm_client.session.events import EventListener
from swarm_protocol.errors import CheckpointError

__all__ = ["EngineSettings", "SwarmEngine"]


class SwarmEngine:
    """`Engine` on a swarm. Made by `start`; its canaries run until `close`."""

    def __init__(self, models: Mapping[str, ServedModel]) -> None:
        self.models = MappingProxyType(dict(models))
        self._is_closed = False
        self._canaries = [
            asyncio.create_task(model.canary.run(), name=f"canary {model.id}")
            for model in models.values()
        ]

    @classmethod
    async def start(cls, connection: SwarmConnection, settings: EngineSettings) -> "SwarmEngine":
        """Load all models at once and watch their swarms. Does not wait for servers.

        Raises:
            CheckpointError: a model cannot be loaded, or two have the same id.
        """
        ids = [model_id_of(source) for source in settings.models]
        if len(set(ids)) < len(ids):
            raise CheckpointError(f"two models have the same name: {', '.join(sorted(ids))}")
        loaded = await asyncio.gather(
            *(load_model(source, connection, settings) for source in settings.models),
            return_exceptions=True,
        )
        models = [model for model in loaded if isinstance(model, ServedModel)]
        for failure in loaded:
            if isinstance(failure, BaseException):
                await _close_parts(models)
                raise failure
        return cls({model.id: model for model in models})

    def model(self, name: str) -> ServedModel:
        """Return the model that callers know by this name.

        Raises:
            UnknownModelError: there is none.
        """
        if name not in self.models:
            raise UnknownModelError(name, self.models)
        return self.models[name]

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
        if self._is_closed:
            raise EngineStoppedError
        model = self.model(model_id)
        if max_length > model.facts.max_positions:
            raise PromptTooLongError(max_length, model.facts.max_positions)
        return await SwarmConversation.open(
            model, max_length=max_length, tenant=tenant, on_event=on_event
        )

    async def close(self) -> None:
        """Stop canaries and the models' parts; conversations fail at their next token. Idempotent.

        The connection stays open: it is not ours.
        """
        self._is_closed = True
        for canary in self._canaries:
            canary.cancel()
        await asyncio.gather(*self._canaries, return_exceptions=True)
        await _close_parts(self.models.values())


async def _close_parts(models: Iterable[ServedModel]) -> None:
    closing = [part.close() for model in models for part in (model.replicas, model.matchers)]
    await asyncio.gather(*closing)
