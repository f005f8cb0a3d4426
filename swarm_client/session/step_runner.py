"""Takes steps along the hops of a session.

The chunks of a long step run one behind the other, so that all servers are at work. Hops that are
lost on the way are mended (`Repairs`), and those that let a step wait for long are replaced as soon
as others have caught up.
"""

import asyncio
from contextlib import suppress
from enum import Enum, auto
from math import inf
from time import monotonic
from typing import Final, TypeAlias

import torch
from torch import Tensor

from swarm_client.errors import NoRouteError
from swarm_client.session.chunk_turns import ChunkTurn, ChunkTurns
from swarm_client.session.chunks import can_be_cut, cut_into_chunks, overlapping_size
from swarm_client.session.hop_session import HopOutput, StepInputs
from swarm_client.session.lateness import FOREVER, LateWatch, Patience, patience
from swarm_client.session.repairs import Repairs, abandon
from swarm_client.session.route_search import RouteSearch
from swarm_client.session.session_hop import SessionHop
from swarm_client.session.session_hops import SessionHops
from swarm_client.settings import RoutingSettings
from swarm_protocol.errors import DeadlineExceededError, PeerError, PeerUnreachableError
from swarm_protocol.identifiers import BlockRange

_GONE_S: Final = 1.0
"""So long a server may answer no ping while nobody could take its place."""


_HopStep: TypeAlias = tuple[SessionHop, StepInputs]
"""A step at one hop."""


class _Gone(Enum):
    """Instead of outputs: the server gives no sign of life."""

    GONE = auto()


class StepRunner:
    """Runs the steps of one session. It changes the hops, and never undoes anything.

    Attributes:
        repairs: of the session.
    """

    def __init__(
        self,
        search: RouteSearch,
        hops: SessionHops,
        settings: RoutingSettings,
        *,
        is_patient: bool = False,
    ) -> None:
        """Prepare to run steps.

        Args:
            search: finds others for hops that are lost.
            hops: of the session; replaced as needed.
            settings: say how long chunks are, and what repairs may take.
            is_patient: wait for late replies of servers that are there, as long as a step may
                take.
        """
        self.repairs = Repairs(search, hops, settings, self)
        self._search = search
        self._hops = hops
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._is_patient = is_patient
        self._watch: LateWatch[_HopStep, SessionHops | _Gone] = LateWatch(
            self._patience,
            self._is_there,
            self._give_up if is_patient else self._open_elsewhere,
            _abandon,
        )

    def along(self, hops: SessionHops) -> "StepRunner":
        """Return a runner along other hops, which tells nothing and leaves only who is gone."""
        return StepRunner(self._search.quietly(), hops, self._settings, is_patient=True)

    async def run(self, blocks: BlockRange, inputs: StepInputs) -> Tensor:
        """Return the outputs of a step; see `InferenceSession.step`."""
        hops = self._hops
        self.repairs.begin_step()
        hops.begin_step()
        if outdated := hops.outdated(inputs.num_rows):
            await self.repairs.replace_outdated(outdated, inputs.num_rows)
        inputs = hops.take_step(inputs)
        if inputs.num_tokens == 1:
            return await self._run_chunk(blocks, inputs)
        return await self.run_chunks(blocks, inputs)

    async def run_chunks(self, blocks: BlockRange, inputs: StepInputs) -> Tensor:
        """Run a part of a step along some of the hops, mending what is lost on the way."""
        return await self._run_chunks(blocks, inputs, self._settings.max_step_tokens)

    async def _run_chunks(
        self, blocks: BlockRange, inputs: StepInputs, max_step_tokens: int
    ) -> Tensor:
        chunks = self._cut(blocks, inputs, max_step_tokens)
        if len(chunks) == 1:
            return await self._run_chunk(blocks, inputs)
        turns = ChunkTurns(len(chunks), blocks.start)
        try:
            async with asyncio.TaskGroup() as tasks:
                running = [
                    tasks.create_task(self._run_chunk(blocks, chunk, turns.turn(index)))
                    for index, chunk in enumerate(chunks)
                ]
        except BaseExceptionGroup as group:  # callers know the plain error
            raise group.exceptions[0] from group
        if inputs.only_last_at == blocks.end:
            return running[-1].result()
        return torch.cat([chunk.result() for chunk in running], dim=1)

    def _cut(
        self, blocks: BlockRange, inputs: StepInputs, max_step_tokens: int
    ) -> list[StepInputs]:
        chunk_tokens = overlapping_size(
            inputs.num_tokens, self._hops.count(blocks), self._settings.prefill_chunk_tokens
        )
        return cut_into_chunks(inputs, chunk_tokens, max_step_tokens)

    async def _run_chunk(
        self, blocks: BlockRange, chunk: StepInputs, turn: ChunkTurn | None = None
    ) -> Tensor:
        """Take a chunk along the hops over some blocks, replacing those that are lost.

        The only chunk of a step waits for no turn.
        """
        hidden, start = chunk.hidden, blocks.start
        while start < blocks.end:
            if turn is not None:
                await turn.wait(start)
            hop = self._hops[start]
            inputs = hop.inputs(hidden, chunk, blocks.start)
            if can_be_cut(inputs, hop.session.max_step_tokens):
                hidden = await self._run_chunks(hop.blocks, inputs, hop.session.max_step_tokens)
            else:
                outputs = await self._try_hop(hop, inputs)
                if outputs is None:
                    continue
                hidden = outputs
            start = hop.blocks.end
            if turn is not None:
                turn.move(start)
                self._hops.limit_history(self._settings.max_history_bytes)
        if chunk.only_last_at == blocks.end:  # a server may send the others all the same
            return hidden[:, -1:]
        return hidden

    async def _try_hop(self, hop: SessionHop, inputs: StepInputs) -> Tensor | None:
        """Return the outputs of a hop; None when others have taken its place."""
        sent_at = monotonic()  # the clock of event loops, which some of them round
        output = hop.session.step(inputs, position=hop.history.num_tokens)
        try:
            outcome = await self._watch.first_of(output, (hop, inputs), sent_at)
            if isinstance(outcome, HopOutput):
                now = monotonic()
                hop.step_finished(inputs, outcome, now - sent_at, now)
                return outcome.hidden
            if isinstance(outcome, _Gone):
                raise PeerUnreachableError(hop.session.hop.peer, "it does not answer pings")
        except (PeerError, DeadlineExceededError) as error:
            await self.repairs.mend(hop, error, inputs.num_rows, since=sent_at)
            return None
        self.repairs.replace_late(hop, outcome, inputs.num_rows, since=sent_at)
        return None

    def _patience(self, step: _HopStep) -> Patience:
        """Return how long a step may take at a hop; for ever if nobody can take its place."""
        hop, size = step[0], step[1].size
        if not self._hops.can_be_replaced(hop):
            return FOREVER
        slow_s = hop.latencies.slow_s(size, self._loop.time())
        expected_s = None
        if slow_s is None:
            expected_s = self._search.expected_s(hop.session.hop, size)
        may_queue = hop.session.may_queue
        found = patience(slow_s, expected_s, self._settings, may_queue=may_queue)
        return found._replace(late_s=inf) if self._is_patient else found

    async def _is_there(self, step: _HopStep) -> bool:
        peers = [hop.session.hop.peer for hop in self._hops]
        return await self._search.answers_ping(step[0].session.hop.peer, peers)

    async def _give_up(self, step: _HopStep) -> _Gone:
        """Nothing is prepared beside what is prepared already."""
        return _Gone.GONE

    async def _open_elsewhere(self, step: _HopStep) -> SessionHops | _Gone:
        """Prepare others; a server that stays silent while there are none is lost."""
        is_gone = self._search.is_silent(step[0].session.hop.peer)
        if is_gone and self.repairs.losses.may_wait:
            with suppress(NoRouteError):
                return await self._others(step, _GONE_S)
            if self._search.is_silent(step[0].session.hop.peer):
                return _Gone.GONE  # the session waits, and says for what
        return await self._others(step, self._settings.request_timeout_s)

    async def _others(self, step: _HopStep, wait_s: float) -> SessionHops:
        hop, inputs = step
        failed = self.repairs.losses.failed
        return await self.repairs.open_elsewhere(
            hop, inputs.num_rows, excluded=failed, wait_s=wait_s
        )


def _abandon(prepared: SessionHops | _Gone) -> None:
    if isinstance(prepared, SessionHops):
        abandon([hop.session for hop in prepared])
