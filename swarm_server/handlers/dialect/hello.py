"""`swarmgate.hello`: says which version of the dialect is spoken, and what is served."""

import torch

from swarm_protocol.dialect import STEP_FLAGS, VERSION, HelloReply, HelloRequest
from swarm_protocol.identifiers import PeerId
from swarm_server.errors import NotServedError
from swarm_server.handlers.dialect.limits import LaneLimits
from swarm_server.handlers.opening import ServedModel


class HelloHandler:
    """Answers the first call of a client."""

    def __init__(
        self, model: ServedModel, limits: LaneLimits, *, dtype: torch.dtype, page_size: int
    ) -> None:
        self._model = model
        self._reply = HelloReply(
            version=VERSION,
            blocks=model.blocks,
            hidden_size=model.hidden_size,
            dtype=dtype,
            page_size=page_size,
            max_frame_tokens=limits.max_frame_tokens,
            max_inflight_tokens=limits.max_inflight_tokens,
            max_length=model.max_length,
            adapters=tuple(sorted(model.adapters)),
            step_flags=STEP_FLAGS,
        ).to_wire()

    async def answer(self, data: bytes, _caller: PeerId) -> bytes:
        """Return a HelloReply.

        Raises:
            MalformedMessageError: the request is no HelloRequest.
            NotServedError: another model, or no version that we speak.
        """
        request = HelloRequest.parse(data)
        if request.dht_prefix != self._model.dht_prefix:
            raise NotServedError.blocks(request.dht_prefix)
        if VERSION not in request.versions:
            raise NotServedError(f"only version {VERSION} of this dialect is spoken here")
        return self._reply
