"""What is known about the servers of one model: spans, pings, bans. Pure; time is an argument.

`now` is a reading of the event loop's clock, in seconds.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import inf, isinf

from swarm_client.models.facts import ModelFacts
from swarm_client.routing import Candidate, Hop, uncovered_blocks
from swarm_client.routing.latencies import Latencies
from swarm_client.server_spans import Server, read_servers
from swarm_protocol.identifiers import BlockRange, PeerId
from swarm_protocol.node import FoundRecord
from swarm_protocol.pings import Pings
from swarm_protocol.records import ServerState


@dataclass(frozen=True, slots=True)
class ServerView:
    """One server as shown to people and programs.

    `ping_s` is a smoothed round trip: None while unknown, infinite when it did not answer.
    `throughput` is in tokens per second, as announced.
    """

    peer: PeerId
    blocks: BlockRange
    state: ServerState
    throughput: float
    public_name: str | None
    version: str | None
    dtype: str | None
    cache_tokens_left: int | None
    ping_s: float | None
    is_banned: bool
    adapters: tuple[str, ...] = ()


@dataclass(slots=True)
class _Ban:
    """A peer is avoided for a while.

    Attributes:
        until: reading of the clock.
        expires_at: of its record, in the first look-up since; 0 when there was none.
        was_silent: it could not be reached, or did not answer a ping since. If it has been
            measured after that, it is back.
    """

    until: float
    was_silent: bool = False
    expires_at: float | None = None


class Directory:
    """The live map of a model's servers.

    Attributes:
        latencies: how long steps took at these servers, to be recorded by whoever makes steps.
        pings: round trips from us, to be recorded by whoever pings; infinite is "no answer".
    """

    def __init__(
        self,
        facts: ModelFacts,
        *,
        ban_s: float,
        adapter: str | None = None,
        allowed: Collection[PeerId] | None = None,
        blocked: Collection[PeerId] = (),
    ) -> None:
        """Begin with an empty map.

        Args:
            facts: of the model.
            ban_s: how long a ban holds.
            adapter: that servers must announce to be used; None takes all.
            allowed: peers that may be used; None is all.
            blocked: peers that may not.
        """
        self.latencies = Latencies()
        self.pings = Pings()
        self._facts = facts
        self._adapter = adapter
        self._allowed = allowed
        self._blocked = blocked
        self._ban_s = ban_s
        self._servers: tuple[Server, ...] = ()
        self._bans: dict[PeerId, _Ban] = {}
        self._offline: frozenset[PeerId] = frozenset()  # by their records
        self._leaving: dict[PeerId, float] = {}  # by their own word, until

    def update(self, found: Mapping[str, Mapping[str, FoundRecord]], now: float) -> None:
        """Replace the servers by those in `found`, the records of all blocks."""
        servers = read_servers(found, self._facts.dht_prefix, self._facts.num_blocks)
        is_offline = ServerState.OFFLINE
        self._servers = tuple(one for one in servers if one.record.state != is_offline)
        self._offline = frozenset(one.peer for one in servers if one.record.state == is_offline)
        self._leaving = {peer: until for peer, until in self._leaving.items() if until > now}
        present = {server.peer: server.expires_at for server in self._servers}
        self.pings.keep(present)
        self._bans = {p: ban for p, ban in self._bans.items() if ban.until > now or p in present}
        for peer, ban in self._bans.items():
            if ban.expires_at is None:
                ban.expires_at = present.get(peer, 0.0)
            elif present.get(peer, 0.0) > ban.expires_at:
                self.note_reached(peer)

    def ban(self, peer: PeerId, now: float, *, is_silent: bool = False) -> None:
        """Avoid a peer for a while; when it is used again, it is measured anew.

        One that could not be reached counts so until it is heard of, however long that takes:
        records outlive their servers, and bans do not.

        Args:
            peer: that has failed.
            now: reading of the clock.
            is_silent: it could not be reached, rather than doing something wrong.
        """
        self.latencies.forget(peer)
        self._bans[peer] = _Ban(now + self._ban_s, is_silent)
        if is_silent:
            self.pings.record(peer, inf)

    def note_reached(self, peer: PeerId) -> None:
        """A peer has been heard of; how far away it is, is not known if it was out of reach."""
        if self.needs_ping(peer):
            self.pings.forget(peer)

    def needs_ping(self, peer: PeerId) -> bool:
        """Tell whether the round trip to a peer that can be reached is not known."""
        ping_s = self.pings.get(peer)
        return ping_s is None or isinf(ping_s)

    def leave(self, peer: PeerId, now: float) -> None:
        """Take in that a server has said that it is about to stop: it is avoided for a while."""
        self.ban(peer, now)
        self._leaving[peer] = now + self._ban_s

    def is_leaving(self, peer: PeerId, now: float) -> bool:
        """Tell whether a server is about to stop, by its own word or its latest record."""
        return peer in self._offline or self._leaving.get(peer, now) > now

    def is_banned(self, peer: PeerId, now: float) -> bool:
        """Tell whether a peer is to be avoided."""
        ban = self._bans.get(peer)
        return ban is not None and ban.until > now

    def has_returned(self, peer: PeerId, now: float) -> bool:
        """Tell whether a peer that was banned may be tried again where there is no other.

        Its ban is over, or it has announced itself since, or was silent and is not any more: it
        was started anew, or was cut off.
        """
        ban = self._bans.get(peer)
        if ban is None or ban.expires_at is None:
            return False
        return (
            ban.until <= now
            or self._is_back(peer, ban)
            or any(
                server.peer == peer and server.expires_at > ban.expires_at
                for server in self._servers
            )
        )

    def banned_peers(self, now: float) -> list[PeerId]:
        """Return the servers that are to be avoided, never or least recently pinged ones first."""
        return [peer for peer in self.peers() if self.is_banned(peer, now)]

    def note_pings(self, peers: Collection[PeerId]) -> None:
        """Take in that peers have just been pinged: who was silent before may be back."""
        for peer in peers:
            ban = self._bans.get(peer)
            if ban is not None:
                ban.was_silent |= isinf(self.pings.get(peer) or 0.0)

    def peers(self) -> tuple[PeerId, ...]:
        """Return the peers of all servers, never or least recently pinged ones first."""
        return tuple(self.pings.oldest_first(server.peer for server in self._servers))

    def views(self, now: float) -> tuple[ServerView, ...]:
        """Return all servers, by start of span and peer id."""
        return tuple(
            ServerView(
                peer=server.peer,
                blocks=server.blocks,
                state=server.record.state,
                throughput=server.record.throughput,
                public_name=server.record.public_name,
                version=server.record.version,
                dtype=server.record.torch_dtype,
                cache_tokens_left=server.record.cache_tokens_left,
                ping_s=self.pings.get(server.peer),
                is_banned=self.is_banned(server.peer, now),
                adapters=tuple(server.record.adapters),
            )
            for server in self._servers
        )

    def candidates(self, now: float, excluded: Collection[PeerId] = ()) -> list[Candidate]:
        """Return the servers for the router: online, not `excluded`, and such as may be used.

        Bans are marked, but of peers that were out of reach and have been heard of since: their
        records must not be worse than those that outlive their servers. Rates are those that we
        have measured, or else as announced.
        """
        return [
            Candidate(
                peer=server.peer,
                blocks=server.blocks,
                ping_s=self.pings.get(server.peer),
                rate_tokens_per_s=self.latencies.rate_tokens_per_s(server.peer, now)
                or server.record.inference_rps,
                next_pings=server.record.next_pings or {},
                cache_tokens_left=server.record.cache_tokens_left,
                is_avoided=self._is_avoided(server.peer, now),
            )
            for server in self._servers
            if server.record.state == ServerState.ONLINE
            and server.peer not in excluded
            and self._may_be_used(server)
        ]

    def expected_s(self, hop: Hop, num_tokens: int, now: float) -> float | None:
        """Return how long a step may usually take at a server whose times are hardly known.

        The longest of its few steps so far, of those of others over as many blocks, and of what
        its record promises; and its ping. None when there is none of the three.
        """
        known = [
            self.latencies.of(hop).longest_s(num_tokens),
            self.latencies.elsewhere_s(hop, num_tokens, now),
            self._announced_s(hop, num_tokens),
        ]
        times_s = [time_s for time_s in known if time_s is not None]
        if not times_s:
            return None
        ping_s = self.pings.get(hop.peer) or 0.0
        return max(times_s) + (0.0 if isinf(ping_s) else ping_s)

    def _is_avoided(self, peer: PeerId, now: float) -> bool:
        ban = self._bans.get(peer)
        if ban is None or ban.until <= now:
            return False
        return not (ban.was_silent and (self._is_back(peer, ban) or self.has_returned(peer, now)))

    def _is_back(self, peer: PeerId, ban: _Ban) -> bool:
        return ban.was_silent and not self.needs_ping(peer)

    def _announced_s(self, hop: Hop, num_tokens: int) -> float | None:
        for server in self._servers:
            if server.peer == hop.peer:
                record = server.record
                rate = record.inference_rps if num_tokens == 1 else record.forward_rps
                return len(hop.blocks) * num_tokens / rate if rate else None
        return None

    def _may_be_used(self, server: Server) -> bool:
        is_allowed = self._allowed is None or server.peer in self._allowed
        has_adapter = self._adapter is None or self._adapter in server.record.adapters
        return is_allowed and server.peer not in self._blocked and has_adapter

    def missing_blocks(self, now: float) -> tuple[BlockRange, ...]:
        """Return the blocks that no server holds which may be used; banned ones do not count."""
        usable = [c.blocks for c in self.candidates(now) if not c.is_avoided]
        return uncovered_blocks(usable, BlockRange(0, self._facts.num_blocks))
