"""Takes steps along the hops of a session.

The chunks of a long step run one behind the other, so that all servers are at work. Hops that are
lost on the way are mended (`Repairs`), and those that let a step wait for long are replaced as soon
as others have caught up.
"""

import asyncio
from math import inf
from typing import NamedTuple

import torch
from torch import Tensor

from swarm_client.session.chunk_turns import ChunkTurn, ChunkTurns
from swarm_client.session.chunks import can_be_cut, cut_into_chunks, overlapping_size
from swarm_client.session.hop_calls import exchange
from swarm_client.session.hop_session import StepInputs
from swarm_client.session.lateness import LateWatch, patience_s
from swarm_client.session.losses import Losses
from swarm_client.session.repairs import Repairs, abandon
from swarm_client.session.route_search import RouteSearch
from swarm_client.session.session_hop import SessionHop
from swarm_client.session.session_hops import SessionHops
from swarm_client.settings import RoutingSettings
from swarm_protocol.errors import DeadlineExceededError, PeerError
from swarm_protocol.identifiers import BlockRange


class _HopStep(NamedTuple):
    """A step at one hop."""

    hop: SessionHop
    inputs: StepInputs
    losses: Losses


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
            is_patient: wait for late replies, as long as a step may take.
        """
        self.repairs = Repairs(search, hops, settings, self)
        self._search = search
        self._hops = hops
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._watch = (
            None if is_patient else LateWatch(self._patience_s, self._open_elsewhere, _abandon)
        )

    def along(self, hops: SessionHops) -> "StepRunner":
        """Return a runner along other hops, which tells nothing and waits for late replies."""
        return StepRunner(self._search.quietly(), hops, self._settings, is_patient=True)

    async def run(self, blocks: BlockRange, inputs: StepInputs) -> Tensor:
        """Return the outputs of a step; see `InferenceSession.step`."""
        losses = self.repairs.losses()
        self._hops.begin_step()
        await self.repairs.catch_up(inputs.hidden.shape[0], losses)
        order = self._hops.order(inputs.hypo_ids)
        if order is not inputs.hypo_ids:
            inputs = StepInputs(inputs.hidden, inputs.prompts, order)
        self._hops.take_step(inputs)
        return await self._run_chunks(blocks, inputs, losses, self._settings.max_step_tokens)

    async def run_chunks(self, blocks: BlockRange, inputs: StepInputs, losses: Losses) -> Tensor:
        """Run a part of a step along some of the hops, mending what is lost on the way."""
        return await self._run_chunks(blocks, inputs, losses, self._settings.max_step_tokens)

    async def _run_chunks(
        self, blocks: BlockRange, inputs: StepInputs, losses: Losses, max_step_tokens: int
    ) -> Tensor:
        chunks = self._cut(blocks, inputs, max_step_tokens)
        if len(chunks) == 1:
            return await self._run_chunk(blocks, inputs, losses)
        turns = ChunkTurns(len(chunks), blocks.start)
        try:
            async with asyncio.TaskGroup() as tasks:
                running = [
                    tasks.create_task(self._run_chunk(blocks, chunk, losses, turns.turn(index)))
                    for index, chunk in enumerate(chunks)
                ]
        except BaseExceptionGroup as group:  # callers know the plain error
            raise group.exceptions[0] from group
        return torch.cat([chunk.result() for chunk in running], dim=1)

    def _cut(
        self, blocks: BlockRange, inputs: StepInputs, max_step_tokens: int
    ) -> list[StepInputs]:
        if inputs.num_tokens == 1:
            return [inputs]
        chunk_tokens = overlapping_size(
            inputs.num_tokens, self._hops.count(blocks), self._settings.prefill_chunk_tokens
        )
        return cut_into_chunks(inputs, chunk_tokens, max_step_tokens)

    async def _run_chunk(
        self,
        blocks: BlockRange,
        chunk: StepInputs,
        losses: Losses,
        turn: ChunkTurn | None = None,
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
            max_step_tokens = hop.session.max_step_tokens
            if can_be_cut(inputs, max_step_tokens):
                hidden = await self._run_chunks(hop.blocks, inputs, losses, max_step_tokens)
            else:
                outputs = await self._try_hop(hop, inputs, losses)
                if outputs is None:
                    continue
                hidden = outputs
            start = hop.blocks.end
            if turn is not None:
                turn.move(start)
                self._hops.limit_history(self._settings.max_history_bytes)
        return hidden

    async def _try_hop(self, hop: SessionHop, inputs: StepInputs, losses: Losses) -> Tensor | None:
        """Return the outputs of a hop; None when others have taken its place."""
        sent_at = self._loop.time()
        outcome: Tensor | SessionHops
        try:
            if self._watch is None:
                outcome = await exchange(hop, inputs)
            else:
                step = _HopStep(hop, inputs, losses)
                outcome = await self._watch.first_of(exchange(hop, inputs), step, sent_at)
        except (PeerError, DeadlineExceededError) as error:
            await self.repairs.mend(hop, error, len(inputs.hidden), losses, since=sent_at)
            return None
        if isinstance(outcome, SessionHops):
            self.repairs.replace_late(hop, outcome, len(inputs.hidden), losses, since=sent_at)
            return None
        return outcome

    def _patience_s(self, step: _HopStep) -> float:
        """Return how long a step may take at a hop; for ever if nobody can take its place."""
        hop = step.hop
        if not self._hops.can_be_replaced(hop):
            return inf
        slow_s = hop.latencies.slow_s(step.inputs.size, self._loop.time())
        return patience_s(slow_s, self._settings, is_first=hop.history.num_tokens == 0)

    async def _open_elsewhere(self, step: _HopStep) -> SessionHops:
        return await self.repairs.open_elsewhere(
            step.hop,
            len(step.inputs.hidden),
            excluded=step.losses.failed,
            wait_s=self._settings.request_timeout_s,
        )


def _abandon(hops: SessionHops) -> None:
    abandon([hop.session for hop in hops])
