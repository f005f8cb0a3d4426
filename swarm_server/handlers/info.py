"""`rpc_info`: what this server says about itself. Source: PETALS_PROTOCOL §2.4."""

from collections.abc import Callable

import torch

from swarm_protocol.identifiers import PeerId, parse_uid
from swarm_protocol.messages import ExpertInfo, ExpertUID, parse_message
from swarm_protocol.server_info import PeerDescription
from swarm_server.errors import NotServedError
from swarm_server.handlers.opening import ServedModel


class InfoHandler:
    """Describes the server to whoever asks."""

    def __init__(
        self,
        served: ServedModel,
        *,
        dtype: torch.dtype,
        version: str,
        count_slots_left: Callable[[], int],
    ) -> None:
        self._served = served
        self._dtype = dtype
        self._version = version
        self._count_slots_left = count_slots_left

    async def answer(self, request: bytes, _caller: PeerId) -> bytes:
        """Return an ExpertInfo; a request without a uid gets no tensor descriptors.

        Raises:
            MalformedMessageError: the request is not an ExpertUID, or its uid is not one.
            NotServedError: the block is not ours.
        """
        uid: str = parse_message(ExpertUID, request).uid
        description = PeerDescription(
            version=self._version,
            hidden_size=self._served.hidden_size,
            dtype=self._dtype,
            cache_tokens_left=self._count_slots_left(),
            can_roll_back=True,
        )
        if not uid:
            return _reply(description.to_wire_without_block())
        prefix, index = parse_uid(uid)
        if prefix != self._served.dht_prefix or index not in self._served.blocks:
            raise NotServedError.blocks(uid)
        return _reply(description.to_wire())


def _reply(facts: bytes) -> bytes:
    reply: bytes = ExpertInfo(serialized_info=facts).SerializeToString()
    return reply
