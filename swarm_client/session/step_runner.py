"""Takes steps along the hops of a session, and puts others in the place of hops that are lost.

What to send to whom is decided by `SessionHops`; here it is done. The chunks of a long step run
one behind the other, so that all servers are at work.
"""

import asyncio

import torch
from torch import Tensor

from swarm_client.errors import SessionClosedError, SessionLostError
from swarm_client.session.chunk_turns import ChunkTurn, ChunkTurns
from swarm_client.session.chunks import can_be_cut, cut_into_chunks, overlapping_size
from swarm_client.session.hop_calls import exchange
from swarm_client.session.hop_session import StepInputs
from swarm_client.session.losses import Losses, loss_of
from swarm_client.session.route_search import RouteSearch
from swarm_client.session.session_hops import SessionHop, SessionHops
from swarm_client.settings import RoutingSettings
from swarm_protocol.errors import DeadlineExceededError, PeerError
from swarm_protocol.identifiers import BlockRange


class StepRunner:
    """Runs the steps of one session. It changes the hops, and never undoes anything."""

    def __init__(self, search: RouteSearch, hops: SessionHops, settings: RoutingSettings) -> None:
        self._search = search
        self._hops = hops
        self._settings = settings
        self._is_stopped = False

    def stop(self) -> None:
        """Let the running step fail at its next loss: the session was closed."""
        self._is_stopped = True

    async def run(self, blocks: BlockRange, inputs: StepInputs) -> Tensor:
        """Return the outputs of a step; see `InferenceSession.step`."""
        losses = Losses(
            max_losses=self._settings.max_retries * len(self._hops),
            timeout_s=self._settings.repair_timeout_s,
        )
        self._hops.begin_step()
        await self._catch_up(len(inputs.hidden), losses)
        order = self._hops.order(inputs.hypo_ids)
        if order is not inputs.hypo_ids:
            inputs = StepInputs(inputs.hidden, inputs.prompts, order)
        return await self._run_chunks(blocks, inputs, losses, self._settings.max_step_tokens)

    async def _catch_up(self, num_rows: int, losses: Losses) -> None:
        """Replace the hops whose servers are not where the session is, all at once."""
        outdated = self._hops.outdated(num_rows)
        if outdated:
            await self._replace_all(outdated, num_rows, losses)
        self._hops.caught_up(num_rows)

    async def _replace_all(self, outdated: list[SessionHop], num_rows: int, losses: Losses) -> None:
        rows = self._hops.rows_to_replay(num_rows)
        replays = [hop.history.inputs_of(rows) for hop in outdated]
        await asyncio.gather(*(hop.session.close() for hop in outdated))
        try:
            async with asyncio.TaskGroup() as tasks:
                for hop, replay in zip(outdated, replays, strict=True):
                    tasks.create_task(self._replace(hop, replay, num_rows, losses))
        except BaseExceptionGroup as group:  # callers know the plain error
            raise group.exceptions[0] from group

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
                try:
                    hidden = await exchange(hop, inputs)
                except (PeerError, DeadlineExceededError) as error:
                    await self._mend(hop, error, len(hidden), losses)
                    continue
            start = hop.blocks.end
            if turn is not None:
                turn.move(start)
        self._hops.limit_history(self._settings.max_history_bytes)
        return hidden

    async def _mend(
        self,
        hop: SessionHop,
        error: PeerError | DeadlineExceededError,
        num_rows: int,
        losses: Losses,
    ) -> None:
        """Put other servers in the place of a lost one."""
        if self._is_stopped:  # we dropped it ourselves
            raise SessionClosedError from error
        loss = loss_of(hop.session.hop, error)
        hop.session.abandon()
        if isinstance(loss, SessionLostError):
            self._search.report_failure(loss.peer)
        if not hop.history.is_complete:
            raise loss
        deadline = losses.add(loss.peer, cause=loss, now=asyncio.get_running_loop().time())
        replay = hop.history.inputs_of(torch.arange(num_rows))
        try:
            async with asyncio.timeout_at(deadline):
                await self._replace(hop, replay, num_rows, losses)
        except TimeoutError:
            raise loss from error

    async def _replace(
        self, hop: SessionHop, replay: StepInputs | None, num_rows: int, losses: Losses
    ) -> None:
        """Open other sessions over the blocks of a hop, and send them what it had been sent."""
        sessions = await self._search.open(hop.blocks, num_rows=num_rows, losses=losses)
        self._hops.replace(hop, sessions)
        if self._is_stopped:  # meanwhile; the failed step abandons them
            raise SessionClosedError
        if replay is not None:
            await self._run_chunks(hop.blocks, replay, losses, self._settings.max_step_tokens)
