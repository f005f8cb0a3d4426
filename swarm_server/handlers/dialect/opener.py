"""From an opening to a session in the engine: checked, admitted, begun."""

from hashlib import blake2b
from typing import Final

from swarm_protocol.dialect import HASH_BYTES, Opening
from swarm_protocol.identifiers import BlockChain, PeerId
from swarm_server.engine.serving.requests import SessionRequest
from swarm_server.errors import KVMemoryError, NotServedError, StepTooLargeError
from swarm_server.handlers.admission import Admission
from swarm_server.handlers.dialect.engine import SessionEngine
from swarm_server.handlers.dialect.lane_session import LaneSession
from swarm_server.handlers.dialect.limits import LaneLimits
from swarm_server.handlers.opening import Opening as AdmittedOpening
from swarm_server.handlers.opening import ServedModel

_MAX_WAIT_S: Final = 600.0


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
        demand = self._demand(opening)
        release = await self._admission.admit(demand)
        try:
            computed = self._engine.open(
                SessionRequest(
                    blocks=opening.blocks,
                    num_rows=opening.num_rows,
                    max_length=opening.max_length,
                    tenant=f"{caller}/{opening.tenant}",
                    adapter=opening.adapter,
                    wait_s=demand.wait_s,
                )
            )
        except BaseException:
            release()
            raise
        return session.begin(computed, self._own_hashes(opening, caller), release)

    def _check(self, opening: Opening) -> None:
        model, blocks = self._model, opening.blocks
        if not model.blocks.covers(blocks):
            raise NotServedError.blocks(f"blocks {blocks} of {model.dht_prefix}")
        model.check_adapter(opening.adapter)
        if opening.max_length > model.max_length:
            raise KVMemoryError.over_limit(opening.max_length, model.max_length)
        if opening.num_rows > self._limits.max_frame_tokens:
            raise StepTooLargeError(opening.num_rows, self._limits.max_frame_tokens)

    def _demand(self, opening: Opening) -> AdmittedOpening:
        """Return the opening in the form in which admission takes it, from either dialect."""
        return AdmittedOpening(
            uid=str(BlockChain(self._model.dht_prefix, opening.blocks)),
            blocks=opening.blocks,
            batch_size=opening.num_rows,
            max_length=opening.max_length,
            session_id=None,  # tokens name sessions here, and are unique
            adapter=opening.adapter,
            structure=None,
            wait_s=min(opening.wait_s, _MAX_WAIT_S),
            limits=self._model.limits(opening.blocks),
        )

    def _own_hashes(self, opening: Opening, caller: PeerId) -> list[bytes]:
        """Return prefix hashes that only sessions of this model and caller can have."""
        owner = f"{self._model.dht_prefix} {caller}".encode()
        return [
            blake2b(owner + each, digest_size=HASH_BYTES).digest() for each in opening.prefix_hashes
        ]
