"""What servers say about themselves (`rpc_info`), asked once per peer."""

from swarm_client.models.facts import ModelFacts
from swarm_client.routing import Hop
from swarm_protocol.errors import MalformedMessageError, PeerMisbehavedError
from swarm_protocol.identifiers import PeerId, make_uid
from swarm_protocol.messages import ExpertInfo, ExpertUID, parse_message
from swarm_protocol.methods import RPC_INFO
from swarm_protocol.node import Node
from swarm_protocol.server_info import PeerDescription


class PeerDescriptions:
    """Descriptions of the servers of one model. A failed peer's is forgotten and asked again."""

    def __init__(self, node: Node, facts: ModelFacts) -> None:
        self._node = node
        self._facts = facts
        self._known: dict[PeerId, PeerDescription] = {}

    async def ask(self, hop: Hop) -> PeerDescription:
        """Return the description of the hop's server.

        Raises:
            PeerError: it does not answer, refuses, or serves a model of another size.
        """
        known = self._known.get(hop.peer)
        if known is None:
            known = await self._ask(hop)
            self._known[hop.peer] = known
        return known

    def forget(self, peer: PeerId) -> None:
        """Ask this peer anew next time: it may come back as another program."""
        self._known.pop(peer, None)

    async def _ask(self, hop: Hop) -> PeerDescription:
        uid = make_uid(self._facts.dht_prefix, hop.blocks.start)
        reply = await self._node.call(hop.peer, RPC_INFO, ExpertUID(uid=uid).SerializeToString())
        try:
            info = parse_message(ExpertInfo, reply)
            description = PeerDescription.parse(info.serialized_info)
        except MalformedMessageError as error:
            raise PeerMisbehavedError(hop.peer, str(error)) from error
        if description.hidden_size != self._facts.hidden_size:
            raise PeerMisbehavedError(
                hop.peer,
                f"expected a model of hidden size {self._facts.hidden_size}, "
                f"got {description.hidden_size}",
            )
        return description
