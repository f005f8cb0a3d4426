"""The models that all workers offer: those of the settings, and the changes made since."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import monotonic
from typing import Final

import orjson
import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.background import in_background
from app.inference.engine import SwarmEngine
from app.inference.errors import ModelExistsError
from app.inference.served_model import ServedModel
from app.workers.colleagues import Colleagues
from swarm_protocol.detached_tasks import start_detached
from swarm_protocol.errors import SwarmError

log = structlog.get_logger(__name__)

_RETRY_S: Final = 30.0


class Change(BaseModel):
    """A model that came (`source`) or went (None), as it stands on the board."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    source: str | None = Field(default=None, max_length=4096)
    dht_prefix: str | None = Field(default=None, max_length=200)


class SharedOffer:
    """Changes the offer of all workers, and follows what others change.

    A model that this worker cannot load, perhaps for want of memory, is tried again later; until
    then only the others offer it.

    Args:
        drain_s: how long conversations of a model that goes may go on.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        engine: SwarmEngine,
        colleagues: Colleagues,
        *,
        drain_s: float,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._colleagues = colleagues
        self._clock = clock
        self._changing = asyncio.Lock()  # so that no old look undoes a change of ours
        self._removals: set[asyncio.Task[None]] = set()
        self._retry_at: dict[str, float] = {}
        self.engine = engine
        self.drain_s = drain_s

    @property
    def is_leading(self) -> bool:
        """Whether this worker makes the canary tokens."""
        return self._colleagues.is_leading

    async def add(self, source: str, dht_prefix: str | None = None) -> ServedModel:
        """Offer one more model, here when this returns and by the others soon.

        Raises:
            SwarmError: see `SwarmEngine.add`; nothing has changed.
            StateUnavailableError: the others cannot be told; nothing has changed.
        """
        async with self._changing:
            model = await self.engine.add(source, dht_prefix)
            try:
                await self._tell(model.id, Change(source=source, dht_prefix=dht_prefix))
            except BaseException:
                await self.engine.remove(model.id, 0)
                raise
            return model

    async def remove(self, model_id: str) -> ServedModel:
        """Offer a model no more; its conversations go on for `drain_s`. Returns at once.

        Raises:
            UnknownModelError: there is none.
            StateUnavailableError: the others cannot be told; nothing has changed.
        """
        async with self._changing:
            model = self.engine.model(model_id)
            await self._tell(model_id, Change())
            self._begin_removal(model_id)
            return model

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Do as the others do while the block runs."""
        try:
            async with in_background(self._follow_all(), name="offer"):
                yield
        finally:
            for removal in self._removals:
                removal.cancel()
            await asyncio.gather(*self._removals, return_exceptions=True)

    async def follow(self) -> None:
        """Do what has changed since the last time."""
        async with self._changing:
            for model_id, data in self._colleagues.offer.items():
                try:
                    change = Change.model_validate_json(data)
                except ValidationError:
                    log.warning("offer_unreadable")  # of another version
                    continue
                if change.source is None:
                    if model_id in self.engine.models:
                        self._begin_removal(model_id)
                elif model_id not in self.engine.models:
                    await self._try_to_add(model_id, change.source, change.dht_prefix)

    async def _follow_all(self) -> None:
        while True:
            await self._colleagues.next_look()
            await self.follow()

    async def _tell(self, model_id: str, change: Change) -> None:
        await self._colleagues.change_offer(model_id, orjson.dumps(change.model_dump()))
        await self._colleagues.look()

    async def _try_to_add(self, model_id: str, source: str, dht_prefix: str | None) -> None:
        if self._clock() < self._retry_at.get(model_id, 0.0):
            return
        try:
            await self.engine.add(source, dht_prefix)
        except ModelExistsError:
            return  # it is still on its way out; the next look tries again
        except SwarmError as error:
            self._retry_at[model_id] = self._clock() + _RETRY_S
            log.warning("model_not_added", model=source, error=error.code)

    def _begin_removal(self, model_id: str) -> None:
        self._retry_at.pop(model_id, None)
        removal = start_detached(
            self.engine.remove(model_id, self.drain_s), name=f"removal of {model_id}"
        )
        self._removals.add(removal)
        removal.add_done_callback(self._removals.discard)
