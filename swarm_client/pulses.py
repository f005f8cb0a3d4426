"""Whether servers are there at all, asked while their steps take long.

A ping costs next to nothing, and whoever computes or queues answers it at once: so who does not is
gone, long before it is clear that a step takes too long.
"""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from math import isinf
from typing import Final

from swarm_protocol.detached_tasks import start_detached
from swarm_protocol.errors import SwarmError
from swarm_protocol.identifiers import PeerId
from swarm_protocol.node import Node
from swarm_protocol.pings import Pings

_MARGIN_S: Final = 0.2
_FACTOR: Final = 4.0
_UNKNOWN_S: Final = 0.05
_GIVE_UP_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class _Question:
    """A ping under way. `due_at`: when an answer would be late."""

    answer: asyncio.Task[bool]
    due_at: float


class Pulses:
    """Pings that all who doubt a peer share. Belongs to one event loop; end with `close`."""

    def __init__(self, node: Node, pings: Pings) -> None:
        """Ask nobody yet.

        Args:
            node: to ping by.
            pings: say how soon an answer can be expected, and take in those that come.
        """
        self._node = node
        self._pings = pings
        self._asked: dict[PeerId, _Question] = {}
        self._silent: set[PeerId] = set()

    async def answers(self, peer: PeerId, others: Collection[PeerId] = ()) -> bool:
        """Tell whether a peer answers soon: within 0.2 s and four times its usual round trip.

        Others are asked at the same time: who loses one server may have lost several.
        """
        for one in {peer, *others} - self._asked.keys():
            self._ask(one)
        question = self._asked[peer]
        for parts in (2, 1):  # were our own loop to stand still, the answer would lie unread
            left_s = max(question.due_at - _now(), 0.0)
            await asyncio.wait([question.answer], timeout=left_s / parts)
        answer = question.answer
        has_answered = answer.done() and not answer.cancelled() and answer.result()
        if not has_answered:
            self._silent.add(peer)
        return has_answered

    def is_silent(self, peer: PeerId) -> bool:
        """Tell whether a peer was asked and has not answered since."""
        return peer in self._silent

    def forget(self, peer: PeerId) -> None:
        """Ask it anew next time; what is under way counts no more."""
        self._silent.discard(peer)
        if (question := self._asked.pop(peer, None)) is not None:
            question.answer.cancel()

    async def close(self) -> None:
        """Ask nobody any more. Idempotent."""
        answers = [question.answer for question in self._asked.values()]
        for answer in answers:
            answer.cancel()
        await asyncio.gather(*answers, return_exceptions=True)

    def _ask(self, peer: PeerId) -> None:
        usual_s = self._pings.get(peer)
        if usual_s is None or isinf(usual_s):
            usual_s = _UNKNOWN_S
        due_at = _now() + _MARGIN_S + _FACTOR * usual_s
        question = _Question(start_detached(self._ping(peer)), due_at)
        self._asked[peer] = question

        def remove(_: object) -> None:
            if self._asked.get(peer) is question:
                del self._asked[peer]

        question.answer.add_done_callback(remove)

    async def _ping(self, peer: PeerId) -> bool:
        try:
            async with asyncio.timeout(_GIVE_UP_S):
                round_trip_s = await self._node.ping(peer)
        except (SwarmError, TimeoutError):
            return False
        self._pings.record(peer, round_trip_s)
        self._silent.discard(peer)
        return True


def _now() -> float:
    return asyncio.get_running_loop().time()
