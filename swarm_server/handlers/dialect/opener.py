"""From an opening to a session in the engine: checked, admitted, begun."""

from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from swarm_protocol.dialect import HASH_BYTES, Opening
from swarm_protocol.identifiers import BlockRange, PeerId
from swarm_server.engine.serving.requests import SessionRequest
from swarm_server.errors import KVMemoryError, NotServedError, StepTooLargeError
from swarm_server.handlers.admission import Admission
from swarm_server.handlers.dialect.engine import SessionEngine
from swarm_server.handlers.dialect.lane_session import LaneSession
from swarm_server.handlers.dialect.limits import LaneLimits
from swarm_server.handlers.opening import ServedModel, num_slots

_MAX_WAIT_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class _Demand:
    """A `SessionDemand`; sessions here are named by their tokens, which are unique."""

    num_slots: int
    wait_s: float
    session_id: None = None


class SessionOpener:
    """Opens sessions of all streams."""

    def __init__(
        self, model: ServedModel, engine: SessionEngine, admission: Admission, limits: LaneLimits
    ) -> None:
        self._model = model
        self._engine = engine
        self._admission = admission
        self._limits = limits

    async def open(self, session: LaneSession, caller: PeerId) -> int:
        """Begin a session when there is KV memory for it; return its cached tokens.

        Raises:
            NotServedError, StepTooLargeError: blocks, an adapter or rows that are not served.
            KVMemoryError: longer than any session may be, or no memory in time.
            ServerDrainingError, TooManySessionsError: see the classes.
        """
        opening = session.opening
        self._check(opening)
        wait_s = min(opening.wait_s, _MAX_WAIT_S)
        demand = _Demand(num_slots(opening.num_rows, opening.max_length, opening.blocks), wait_s)
        wanted = SessionRequest(
            blocks=self._own_blocks(opening.blocks),
            num_rows=opening.num_rows,
            max_length=opening.max_length,
            tenant=f"{caller}/{opening.tenant}",
            adapter=opening.adapter,
            wait_s=wait_s,
        )
        admitted = await self._admission.open(demand, lambda: self._engine.open(wanted))
        hashes = self._own_hashes(opening, caller)
        return session.begin(admitted.session, hashes, admitted.release)

    def _check(self, opening: Opening) -> None:
        model, blocks = self._model, opening.blocks
        if not model.blocks.covers(blocks):
            raise NotServedError.blocks(f"blocks {blocks} of {model.dht_prefix}")
        model.check_adapter(opening.adapter)
        if opening.max_length > model.max_length:
            raise KVMemoryError.over_limit(opening.max_length, model.max_length)
        if opening.num_rows > self._limits.max_frame_tokens:
            raise StepTooLargeError(opening.num_rows, self._limits.max_frame_tokens)

    def _own_blocks(self, blocks: BlockRange) -> BlockRange:
        """Return one object for all sessions of the whole span: the engine compares them often."""
        return self._model.blocks if blocks == self._model.blocks else blocks

    def _own_hashes(self, opening: Opening, caller: PeerId) -> list[bytes]:
        """Return prefix hashes that only sessions of this model and caller can have."""
        owner = f"{self._model.dht_prefix} {caller}".encode()
        hashes = opening.prefix_hashes[: opening.max_length]  # a page has a token at least
        return [blake2b(owner + each, digest_size=HASH_BYTES).digest() for each in hashes]
