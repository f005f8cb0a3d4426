"""Sends the outputs of a step straight on to the next server of its route.

    caller ── step ──> us ── outputs ──> caller ── its copy ──> next server
                        └── rpc_push ───────────────────────────────^

Best effort: the caller sends its own copy in any case. Source: PETALS_PROTOCOL §3.7.
"""

import asyncio
from dataclasses import replace
from typing import Final

from torch import Tensor

from swarm_protocol.identifiers import BlockChain
from swarm_protocol.logs import get_logger
from swarm_protocol.messages import ExpertRequest
from swarm_protocol.methods import RPC_PUSH
from swarm_protocol.node import MAX_UNARY_BYTES, Node
from swarm_protocol.tensor_codec import encode_tensor
from swarm_server.handlers.step_request import StepRequest

log = get_logger(__name__)

_MAX_PUSHES: Final = 64
_TIMEOUT_S: Final = 180.0
_MAX_MESSAGE_BYTES: Final = MAX_UNARY_BYTES - 4096  # the envelope has a few fields of its own


class Pusher:
    """Pushes in the background; `close` ends it."""

    def __init__(self, node: Node, dht_prefix: str) -> None:
        self._node = node
        self._dht_prefix = dht_prefix
        self._pushes: set[asyncio.Task[None]] = set()

    def push(self, request: StepRequest, outputs: Tensor) -> None:
        """Begin to push the outputs of a step to the first of its next servers, if it has any.

        The rest of the step's tensors goes with them. Too large a message is not sent, nor is one
        more while many are under way.
        """
        is_small = outputs.nbytes <= _MAX_MESSAGE_BYTES
        if request.metadata.next_servers and is_small and len(self._pushes) < _MAX_PUSHES:
            task = asyncio.create_task(self._push(request, outputs))
            self._pushes.add(task)
            task.add_done_callback(self._pushes.discard)

    async def close(self) -> None:
        """Give up what is under way."""
        pushes = list(self._pushes)
        for task in pushes:
            task.cancel()
        await asyncio.gather(*pushes, return_exceptions=True)

    async def _push(self, request: StepRequest, outputs: Tensor) -> None:
        peer = request.metadata.next_servers[0].peer
        try:
            message = await asyncio.to_thread(self._encode, request, outputs)
            if len(message) > _MAX_MESSAGE_BYTES:
                return
            async with asyncio.timeout(_TIMEOUT_S):
                await self._node.call(peer, RPC_PUSH, message)
        except Exception as error:  # whatever it is: the caller's own copy is on its way
            log.debug("push_failed", peer=peer, reason=type(error).__name__)

    def _encode(self, request: StepRequest, outputs: Tensor) -> bytes:
        following, *rest = request.metadata.next_servers
        metadata = replace(
            request.metadata,
            session_id=following.session_id,
            next_servers=tuple(rest),
            is_pushed=True,
        )
        message: bytes = ExpertRequest(
            uid=str(BlockChain(self._dht_prefix, following.blocks)),
            tensors=[encode_tensor(tensor) for tensor in (outputs, *request.tensors[1:])],
            metadata=metadata.to_wire(),
        ).SerializeToString()
        return message
