"""The client side of one generation: a route, a position, and steps along the route.

A hop that is lost is replaced by other servers of exactly its blocks, which are sent what it had
been sent; the other hops go on and notice nothing. What to send to whom is decided by
`SessionHops`; here it is done.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Self

import torch
from torch import Tensor

from swarm_client.errors import MaxLengthExceededError, SessionClosedError, SessionLostError
from swarm_client.models.facts import ModelFacts
from swarm_client.routing import Route
from swarm_client.session.chunks import can_be_cut, cut_into_chunks
from swarm_client.session.hop_calls import exchange, match_prefix
from swarm_client.session.hop_session import HopSession, StepInputs
from swarm_client.session.losses import Losses, loss_of
from swarm_client.session.route_search import RouteSearch
from swarm_client.session.session_hops import SessionHop, SessionHops
from swarm_client.session.step_checks import check_hidden, check_hypo_ids, check_prompts
from swarm_client.session.timings import StepTimings
from swarm_client.settings import RoutingSettings
from swarm_protocol.errors import DeadlineExceededError, PeerError
from swarm_protocol.identifiers import BlockRange


class InferenceSession:
    """An open session; also an async context manager. One step at a time.

    `last_step` holds the timings of the latest step, `blocks` are the blocks that every step runs
    through.
    """

    def __init__(
        self, search: RouteSearch, hops: SessionHops, facts: ModelFacts, settings: RoutingSettings
    ) -> None:
        self.last_step = StepTimings()
        self._search = search
        self._hops = hops
        self._facts = facts
        self._settings = settings
        route = self.route
        self.blocks = BlockRange(route[0].blocks.start, route[-1].blocks.end)
        self._is_stepping = False
        self._is_closed = False

    @classmethod
    async def open(
        cls,
        search: RouteSearch,
        blocks: BlockRange,
        facts: ModelFacts,
        settings: RoutingSettings,
        *,
        num_rows: int,
    ) -> Self:
        """Open a session on the best route over `blocks`; see `RemoteModel.open_session`."""
        losses = Losses(max_losses=settings.max_retries, timeout_s=settings.repair_timeout_s)
        sessions = await search.open(blocks, num_rows=num_rows, losses=losses)
        return cls(search, SessionHops(sessions), facts, settings)

    @property
    def position(self) -> int:
        """Tokens that the next ones follow."""
        return self._hops.position

    @property
    def max_length(self) -> int:
        """Tokens that the KV caches may hold."""
        return self._search.max_length

    @property
    def num_rows(self) -> int | None:
        """Rows of every step; None while any number will do."""
        return self._hops.num_rows

    @property
    def is_closed(self) -> bool:
        """Whether it has ended: closed by its owner, or lost with nothing to replay."""
        return self._is_closed

    @property
    def route(self) -> Route:
        """The servers in use, in order."""
        return tuple(hop.session.hop for hop in self._hops)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def reuse_prefix(self, token_ids: Sequence[int]) -> None:
        """Begin at the position up to which all servers have cached the tokens to come.

        The last one is left to be run. What went into the others is not known here, so the loss
        of a server ends the session.

        Args:
            token_ids: of the only row, from position 0 on. Without effect after the first step.
        """
        assert self.position == 0
        num_cached = await match_prefix(self._hops, token_ids)
        self._hops.skip(min(num_cached, len(token_ids) - 1))

    def roll_back(self, position: int) -> None:
        """Forget all tokens from `position` on. Nothing is sent before the next step.

        Servers that cannot do it are sent what is left once more.

        Raises:
            ValueError: the position is not in `0..self.position`.
            RollbackUnsupportedError: servers cannot, and the inputs were too many to keep.
            SessionClosedError: it is closed.
        """
        if self._is_closed:
            raise SessionClosedError
        self._hops.roll_back(position)

    def take_rows(self, rows: Tensor) -> None:
        """Let the next step continue these rows, in this order. Nothing is sent before it.

        Args:
            rows: int64 `[any number]`, each in `0..self.num_rows - 1`.

        Raises:
            RollbackUnsupportedError: their number changes, and the inputs were too many to keep.
        """
        self._hops.take_rows(rows.cpu())

    async def step(
        self, hidden: Tensor, *, prompts: Tensor | None = None, hypo_ids: Tensor | None = None
    ) -> Tensor:
        """Run tokens through all blocks and append them to the servers' KV caches.

        Long prefills are cut into chunks. Lost servers are replaced. When that fails, or the
        caller leaves, the step has not happened: all servers are left, and a session whose inputs
        were not too many to keep is at its position as before, and may try again.

        Args:
            hidden: `[batch, num_tokens, hidden_size]`, any floating dtype and device.
            prompts: deep prompts `[len(blocks), batch or 1, num_prompts, hidden_size]`, added to
                the first tokens before each block; at position 0 only.
            hypo_ids: int64 `[batch]`: the row whose KV cache each row continues.

        Returns:
            The last block's output in the shape, dtype and device of `hidden`.

        Raises:
            MaxLengthExceededError, ValueError: nothing was sent.
            NoRouteError: a server was lost, and no other one has its blocks.
            SessionLostError: there were too many losses, or the inputs were too many to keep.
            CapacityError, PeerError: so did the servers fail that were to take over.
            SessionClosedError: it was closed before, or while this step was on its way.
        """
        self._check_step(hidden, prompts, hypo_ids)
        inputs = StepInputs.copied(hidden, prompts, hypo_ids)
        self._is_stepping = True
        try:
            output = await self._run(inputs)
        except BaseException:
            _abandon(self._hops.step_failed())
            self._is_closed |= self.position > 0 and not self._hops.is_complete
            raise
        finally:
            self._is_stepping = False
        self._hops.step_finished(inputs.num_tokens)
        self.last_step = self._hops.timings()
        return output.to(device=hidden.device, dtype=hidden.dtype)

    async def close(self) -> None:
        """Free the servers' KV memory. Idempotent, bounded in time, never raises."""
        if self._is_closed:
            return
        self._is_closed = True
        sessions = [hop.session for hop in self._hops]
        try:
            if not self._is_stepping:
                await asyncio.gather(*(session.close() for session in sessions))
        finally:
            _abandon(sessions)

    def _check_step(self, hidden: Tensor, prompts: Tensor | None, hypo_ids: Tensor | None) -> None:
        if self._is_closed:
            raise SessionClosedError
        if self._is_stepping:
            raise RuntimeError("a session takes one step at a time")
        check_hidden(hidden, self._facts, self.num_rows)
        if prompts is not None:
            check_prompts(prompts, hidden, len(self.blocks), self.position)
        if hypo_ids is not None:
            check_hypo_ids(hypo_ids, len(hidden))
        if self.position + hidden.shape[1] > self.max_length:
            raise MaxLengthExceededError(self.position, hidden.shape[1], self.max_length)

    async def _run(self, inputs: StepInputs) -> Tensor:
        losses = Losses(
            max_losses=self._settings.max_retries * len(self._hops),
            timeout_s=self._settings.repair_timeout_s,
        )
        self._hops.begin_step()
        await self._catch_up(len(inputs.hidden), losses)
        order = self._hops.order(inputs.hypo_ids)
        if order is not inputs.hypo_ids:
            inputs = StepInputs(inputs.hidden, inputs.prompts, order)
        return await self._run_chunks(self.blocks, inputs, losses, self._settings.max_step_tokens)

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
        chunk_tokens = self._settings.prefill_chunk_tokens
        outputs = []
        for chunk in cut_into_chunks(inputs, chunk_tokens, max_step_tokens):
            outputs.append(await self._run_chunk(blocks, chunk, losses))
            self._hops.limit_history(self._settings.max_history_bytes)
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)

    async def _run_chunk(self, blocks: BlockRange, chunk: StepInputs, losses: Losses) -> Tensor:
        """Take a chunk along the hops over some blocks, replacing those that are lost."""
        hidden, start = chunk.hidden, blocks.start
        while start < blocks.end:
            hop = self._hops[start]
            inputs = hop.inputs(hidden, chunk, blocks.start)
            max_step_tokens = hop.session.max_step_tokens
            if can_be_cut(inputs, max_step_tokens):
                hidden = await self._run_chunks(hop.blocks, inputs, losses, max_step_tokens)
                start = hop.blocks.end
                continue
            try:
                hidden = await exchange(hop, inputs)
            except (PeerError, DeadlineExceededError) as error:
                await self._mend(hop, error, len(hidden), losses)
            else:
                start = hop.blocks.end
        return hidden

    async def _mend(
        self,
        hop: SessionHop,
        error: PeerError | DeadlineExceededError,
        num_rows: int,
        losses: Losses,
    ) -> None:
        """Put other servers in the place of a lost one."""
        if self._is_closed:  # we dropped it ourselves
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
        if self._is_closed:  # meanwhile; the failed step abandons them
            raise SessionClosedError
        if replay is not None:
            await self._run_chunks(hop.blocks, replay, losses, self._settings.max_step_tokens)


def _abandon(sessions: Iterable[HopSession]) -> None:
    for session in sessions:
        session.abandon()
