"""A libp2p node that counts the steps its server pushes on."""

from typing import Any  # of what a node is made of, which is its own business

from swarm_protocol.errors import PeerError
from swarm_protocol.hivemind import HivemindNode
from swarm_protocol.identifiers import PeerId
from swarm_protocol.methods import RPC_PUSH


class PushingNode(HivemindNode):
    """Counts what goes out as `rpc_push`, and keeps what peers say against it."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.num_pushed = 0
        self.refusals: list[PeerError] = []

    async def call(self, peer: PeerId, method: str, request: bytes) -> bytes:
        if method != RPC_PUSH:
            return await super().call(peer, method, request)
        self.num_pushed += 1
        try:
            return await super().call(peer, method, request)
        except PeerError as error:
            self.refusals.append(error)
            raise
