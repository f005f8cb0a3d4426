"""Which peers a node has known, and when it calls those again that are out of sight. Pure.

hivemind's DHT forgets a peer that does not answer once, and never calls it again. Whoever is cut
off from all others thus stays alone when the network has long been mended, and so do two halves of
a swarm. Time is an argument: a reading of the event loop's clock, in seconds.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from swarm_protocol.identifiers import PeerId

_FIRST_PAUSE_S: Final = 1.0
_MAX_PAUSE_S: Final = 60.0
_MAX_PAUSE_ALONE_S: Final = 5.0
_JITTER: Final = 0.2
_MAX_LOST: Final = 64
_FORGET_AFTER_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Call:
    """A peer to be called, and addresses to be tried on top of those that libp2p knows."""

    peer: PeerId
    maddrs: tuple[str, ...]


@dataclass(slots=True)
class _Acquaintance:
    """One peer.

    Attributes:
        maddrs: at which it was reached last; those that we were given for an initial peer.
        is_initial: we were given it, so it is never forgotten.
        lost_at: when it got out of sight; None while the DHT knows it.
        num_calls: in vain, since then.
        called_at: the latest of them.
    """

    maddrs: tuple[str, ...] = ()
    is_initial: bool = False
    lost_at: float | None = None
    num_calls: int = 0
    called_at: float = 0.0


class Acquaintances:
    """The initial peers of a node, and all others that its DHT knows or has known lately."""

    def __init__(self, initial: Mapping[PeerId, Sequence[str]], now: float, random: Random) -> None:
        """Begin with peers that have not been seen yet.

        Args:
            initial: addresses by peer.
            now: reading of the clock.
            random: varies the pauses between calls, lest a whole swarm calls at once.
        """
        self._random = random
        self._peers = {
            peer: _Acquaintance(tuple(maddrs), is_initial=True, lost_at=now, called_at=now)
            for peer, maddrs in initial.items()
        }
        self._is_alone = True

    def look(self, visible: Collection[PeerId], now: float) -> None:
        """Take in which peers the DHT knows now."""
        self._is_alone = not visible
        for peer in visible:
            known = self._peers.setdefault(peer, _Acquaintance())
            if known.lost_at is not None and not known.is_initial:
                known.maddrs = ()  # it may have moved
            known.lost_at, known.num_calls = None, 0
        for peer in self._peers.keys() - set(visible):
            known = self._peers[peer]
            if known.lost_at is None:
                known.lost_at = known.called_at = now
        self._forget(now)

    def learn(self, maddrs: Mapping[PeerId, Sequence[str]]) -> None:
        """Take in where peers are reached now; that of others is of no interest."""
        for peer, known in self._peers.items():
            if not known.maddrs and known.lost_at is None:
                known.maddrs = tuple(maddrs.get(peer, ()))

    @property
    def has_unplaced(self) -> bool:
        """Whether it is not known where a peer in sight is reached."""
        return any(known.lost_at is None and not known.maddrs for known in self._peers.values())

    def calls(self, now: float) -> list[Call]:
        """Return whom to call now, those that wait longest first; they count as called.

        Pauses double with each call in vain; a node that sees nobody makes none of more than 5 s.
        """
        due = [
            peer
            for peer, known in self._peers.items()
            if known.lost_at is not None and now - known.called_at >= self._pause_s(known)
        ]
        due.sort(key=lambda peer: self._peers[peer].called_at)
        for peer in due:
            self._peers[peer].num_calls += 1
            self._peers[peer].called_at = now
        return [Call(peer, self._peers[peer].maddrs) for peer in due]

    def _pause_s(self, known: _Acquaintance) -> float:
        longest_s = _MAX_PAUSE_ALONE_S if self._is_alone else _MAX_PAUSE_S
        pause_s = min(_FIRST_PAUSE_S * 2.0 ** min(known.num_calls, 16), longest_s)
        return pause_s * self._random.uniform(1 - _JITTER, 1 + _JITTER)

    def _forget(self, now: float) -> None:
        """Drop strangers that have been away for long, or are too many."""
        lost = {
            peer: known.lost_at
            for peer, known in self._peers.items()
            if known.lost_at is not None and not known.is_initial
        }
        earliest_first = sorted(lost, key=lambda peer: lost[peer])
        for index, peer in enumerate(earliest_first):
            if now - lost[peer] > _FORGET_AFTER_S or len(lost) - index > _MAX_LOST:
                del self._peers[peer]
