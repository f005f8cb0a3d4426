"""Servers whose blocks have a memory, as transformers' do, and which die when they are told to.

Block `i` adds `i + 1` times the sum of all inputs so far, modulo a prime: an output tells whether
every input came, once, in order and in its row. No bytes, no network.
"""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from swarm_client.routing import Candidate, Hop, Route, choose_route
from swarm_client.routing.latencies import HopLatencies
from swarm_client.session import HopOutput, StepInputs
from swarm_client.session.chunks import can_be_cut
from swarm_client.session.dialling import DialledRoute, DialProgress
from swarm_protocol.errors import PeerError, PeerUnreachableError
from swarm_protocol.identifiers import BlockRange, PeerId

_PRIME = 97


def run_block(index: int, inputs: Tensor, prompts: Tensor | None) -> Tensor:
    """Run all tokens of all rows through a block.

    Args:
        index: of the block.
        inputs: `[num_rows, num_tokens, hidden_size]`, whole numbers.
        prompts: `[1, num_prompts, hidden_size]`, added to the first tokens.
    """
    if prompts is not None:
        inputs = torch.cat(
            [inputs[:, : prompts.shape[1]] + prompts, inputs[:, prompts.shape[1] :]], 1
        )
    return (inputs + (index + 1) * inputs.cumsum(dim=1)) % _PRIME


@dataclass(eq=False)
class RememberingServer:
    """A server of some blocks."""

    peer: PeerId
    blocks: BlockRange
    can_roll_back: bool = True
    max_step_tokens: int = 1000
    heeds_only_last: bool = True
    is_dead: bool = False


class RememberingSession:
    """A `HopSession`: remembers the inputs of each of its blocks."""

    def __init__(self, swarm: "RememberingSwarm", server: RememberingServer, hop: Hop) -> None:
        self.hop = hop
        self.can_roll_back = server.can_roll_back
        self.max_step_tokens = server.max_step_tokens
        self.may_queue = False
        self._swarm = swarm
        self._server = server
        self._inputs: Tensor | None = None
        self._prompts: Tensor | None = None
        self.is_over = False
        swarm.sessions.append(self)

    async def step(self, inputs: StepInputs, *, position: int) -> HopOutput:
        if self._swarm.is_killed_now(self._server):
            raise PeerUnreachableError(self.hop.peer, "the connection broke")
        assert not self.is_over, "a session that was given up"
        assert not can_be_cut(inputs, self.max_step_tokens)
        self._remember(inputs, position)
        assert self._inputs is not None
        hidden = self._inputs
        for place, index in enumerate(range(self.hop.blocks.start, self.hop.blocks.end)):
            prompts = None if self._prompts is None else self._prompts[place]
            hidden = run_block(index, hidden, prompts)
        if inputs.only_last_at == self.hop.blocks.end and self._server.heeds_only_last:
            position = -1
        return HopOutput(hidden[:, position:], queue_ms=1.0, compute_ms=2.0)

    def _remember(self, inputs: StepInputs, position: int) -> None:
        if self._inputs is None:
            assert position == 0, "a KV cache of zeros"
            self._inputs, self._prompts = inputs.hidden, inputs.prompts
            return
        held = self._inputs.shape[1]
        assert position == held or (position < held and self.can_roll_back)
        kept = self._inputs[:, :position]
        if position == 0:
            self._prompts = inputs.prompts
        elif self._prompts is not None:
            self._prompts = self._prompts[:, :, :position]
        if inputs.hypo_ids is not None:
            kept = kept[inputs.hypo_ids]
        self._inputs = torch.cat([kept, inputs.hidden], dim=1)

    async def match_prefix(self, token_ids: Sequence[int]) -> int:
        return 0

    async def close(self) -> None:
        self.abandon()

    def abandon(self) -> None:
        self.is_over = True


class RememberingSwarm:
    """A `RouteSource`. Whoever dies is replaced by two servers, or one for a single block.

    Args:
        splits: blocks of each server.
        deaths: whoever receives the step of this number, counted over the whole swarm, dies.
        seems_slow: whoever is in use seems to be slower than everybody else.
        leaving: peers that are about to stop; there are others.
    """

    def __init__(
        self,
        splits: Sequence[str],
        deaths: Collection[int] = (),
        *,
        seems_slow: bool = False,
        leaving: Collection[str] = (),
    ) -> None:
        self.servers: list[RememberingServer] = []
        self.num_steps = 0
        self._deaths = deaths
        self.sessions: list[RememberingSession] = []
        self.num_moves = 0
        self._seems_slow = seems_slow
        self._leaving = leaving
        for split in splits:
            self.add(BlockRange.parse(split))

    def add(self, blocks: BlockRange, *, can_roll_back: bool = True) -> RememberingServer:
        """Let a server join."""
        limit = 1000 if can_roll_back else 5
        number = len(self.servers)
        server = RememberingServer(
            PeerId(f"s{number}"), blocks, can_roll_back, limit, heeds_only_last=number % 3 != 0
        )
        self.servers.append(server)
        return server

    def is_killed_now(self, server: RememberingServer) -> bool:
        """Count a step, and let the server die if it is time."""
        self.num_steps += 1
        if self.num_steps in self._deaths and not server.is_dead:
            server.is_dead = True
            start, end = server.blocks.start, server.blocks.end
            middle = (start + end + 1) // 2
            self.add(BlockRange(start, middle), can_roll_back=self.num_steps % 2 == 0)
            if middle < end:
                self.add(BlockRange(middle, end), can_roll_back=self.num_steps % 3 == 0)
        return server.is_dead

    async def refresh(self) -> None:
        """Everybody is known already."""

    async def refresh_soon(self) -> None:
        """So they stay."""
        await asyncio.sleep(0)

    def choose_route(
        self, blocks: BlockRange, *, num_cache_tokens: int, excluded: Collection[PeerId]
    ) -> Route:
        candidates = [
            Candidate(server.peer, server.blocks)
            for server in self.servers
            if server.peer not in excluded
        ]
        return choose_route(candidates, blocks, num_cache_tokens=num_cache_tokens)

    async def dial(
        self,
        route: Route,
        *,
        max_length: int,
        tenant: str = "",
        progress: DialProgress | None = None,
    ) -> DialledRoute:
        servers = {server.peer: server for server in self.servers}
        dead = [hop.peer for hop in route if servers[hop.peer].is_dead]
        if dead:
            failures: list[PeerError] = [PeerUnreachableError(peer, "gone") for peer in dead]
            if progress is not None:
                progress.failures += failures
            return DialledRoute(failures=failures)
        return DialledRoute([RememberingSession(self, servers[hop.peer], hop) for hop in route])

    def report_failure(self, peer: PeerId, *, is_silent: bool = False) -> None:
        """Nobody is banned: what may not be tried again is said at every choice."""

    def report_silence(self, peer: PeerId) -> None:
        """Everybody answers at once."""

    def report_late(self, peer: PeerId) -> None:
        """So nobody is late."""

    async def answers_ping(self, peer: PeerId, others: Collection[PeerId]) -> bool:
        """Nor silent."""
        return True

    def is_silent(self, peer: PeerId) -> bool:
        """Nobody."""
        return False

    def expected_s(self, hop: Hop, num_tokens: int) -> float | None:
        """Nobody knows."""
        return None

    def is_leaving(self, peer: PeerId) -> bool:
        """Whoever was named."""
        return peer in self._leaving

    def has_returned(self, peer: PeerId) -> bool:
        """The dead stay dead."""
        return False

    def latencies(self, hop: Hop) -> HopLatencies:
        """Each step takes a second, or as measured."""
        latencies = HopLatencies()
        for num_tokens in (1, 2, 4):
            for _ in range(32 if self._seems_slow else 0):
                latencies.record(num_tokens, 1.0, now=asyncio.get_running_loop().time())
        return latencies

    def time_elsewhere_s(self, hop: Hop, *, num_rows: int, num_cache_tokens: int) -> float | None:
        """Whether or not there is anybody else."""
        return 0.0 if self._seems_slow else None

    def claim_move(self) -> bool:
        """Everybody may."""
        self.num_moves += 1
        return True

    def release_move(self) -> None:
        """Nobody has moved."""
