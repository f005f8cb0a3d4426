"""Puts others in the place of a session's hops that are lost, late or slow.

What to send to whom is decided by `SessionHops`; here it is done.
"""

import asyncio
from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from swarm_client.errors import SessionClosedError, SessionLostError, is_silence
from swarm_client.session.events import HopLost, HopRestored
from swarm_client.session.hop_session import HopSession, StepInputs
from swarm_client.session.losses import Losses, loss_of
from swarm_client.session.route_search import RouteSearch
from swarm_client.session.session_hop import SessionHop
from swarm_client.session.session_hops import SessionHops
from swarm_client.settings import RoutingSettings
from swarm_protocol.errors import DeadlineExceededError, PeerError
from swarm_protocol.identifiers import BlockRange, PeerId


class Runner(Protocol):
    """Takes steps along hops."""

    async def run(self, blocks: BlockRange, inputs: StepInputs) -> Tensor:
        """Run a step of a session."""

    async def run_chunks(self, blocks: BlockRange, inputs: StepInputs) -> Tensor:
        """Run a part of a step along some of the hops, mending what is lost on the way."""

    def along(self, hops: SessionHops) -> "Runner":
        """Return a runner along other hops, which tells nothing and leaves only who is gone."""


class Repairs:
    """Of one session."""

    def __init__(
        self, search: RouteSearch, hops: SessionHops, settings: RoutingSettings, runner: Runner
    ) -> None:
        self._search = search
        self._hops = hops
        self._settings = settings
        self._runner = runner
        self._losses: Losses | None = None
        self._is_stopped = False

    def stop(self) -> None:
        """Mend nothing any more: the session was closed."""
        self._is_stopped = True

    def begin_step(self) -> None:
        """Losses count from here."""
        self._losses = None

    @property
    def losses(self) -> Losses:
        """Those of this step.

        A session that has run nothing yet has nothing to lose, and waits as long as its opening.
        """
        if self._losses is None:  # as nearly always
            has_begun = self._hops.position > 0
            settings = self._settings
            self._losses = Losses(
                max_losses=settings.max_retries * len(self._hops),
                timeout_s=settings.repair_timeout_s,
                wait_s=settings.wait_for_blocks_s if has_begun else self._search.opening_wait_s,
            )
        return self._losses

    async def replace_outdated(self, outdated: Sequence[SessionHop], num_rows: int) -> None:
        """Replace the hops whose servers are not where the session is, all at once."""
        rows = self._hops.begin_replay(num_rows)
        await asyncio.gather(*(hop.session.close() for hop in outdated))
        if len(outdated) == len(self._hops) and not all(h.history.is_complete for h in outdated):
            await self._begin_anew(num_rows)
            return

        async def replace(hop: SessionHop) -> None:
            replay = await self._replay_of(hop, rows, self.losses)
            await self._replace(hop, replay, num_rows)

        try:
            async with asyncio.TaskGroup() as tasks:
                for hop in outdated:
                    tasks.create_task(replace(hop))
        except BaseExceptionGroup as group:  # callers know the plain error
            raise group.exceptions[0] from group

    async def mend(
        self,
        hop: SessionHop,
        error: PeerError | DeadlineExceededError,
        num_rows: int,
        *,
        since: float,
    ) -> None:
        """Put other servers in the place of one that failed in a step that was sent at `since`."""
        if self._is_stopped:  # we dropped it ourselves
            raise SessionClosedError from error
        loss = loss_of(hop.session.hop, error)
        hop.session.abandon()
        self._search.tell(HopLost(loss.peer, hop.blocks, error.code))
        if isinstance(loss, SessionLostError):
            self._search.report_failure(loss.peer, is_silent=is_silence(error))
        if not self._hops.can_be_replaced(hop):
            raise loss
        losses = self.losses
        waited_s = losses.waited_s
        deadline = losses.add(loss.peer, cause=loss, now=_now())
        try:
            async with asyncio.timeout_at(deadline):
                replay = await self._replay_of(hop, torch.arange(num_rows), losses)
                await self._replace(hop, replay, num_rows)
        except TimeoutError:
            raise (losses.gap or loss) from error
        num_replayed = hop.history.num_tokens * num_rows
        waited_s = losses.waited_s - waited_s
        self._search.tell(HopRestored(hop.blocks, num_replayed, _now() - since, waited_s))

    async def open_elsewhere(
        self,
        hop: SessionHop,
        num_rows: int,
        *,
        excluded: Collection[PeerId] = (),
        wait_s: float = 0.0,
    ) -> SessionHops:
        """Open sessions with other servers over a hop's blocks, and bring them to where it is.

        Args:
            hop: in use, and so it stays.
            num_rows: of its KV cache.
            excluded: peers that failed already.
            wait_s: for others to join.

        Raises:
            SwarmError: it did not succeed, and nothing is left open.
        """
        losses = Losses(
            max_losses=self._settings.max_retries,
            timeout_s=self._settings.repair_timeout_s,
            wait_s=wait_s,
        )
        losses.failed.update(excluded, [hop.session.hop.peer])
        replay = await self._replay_of(hop, torch.arange(num_rows), losses)
        search = self._search.quietly()
        sessions = await search.open(hop.blocks, num_rows=num_rows, losses=losses)
        others = SessionHops(sessions, self._search.latencies)
        if replay is not None:
            await self.run_along(others, replay)
        return others

    async def run_along(self, others: SessionHops, inputs: StepInputs) -> None:
        """Take a step along hops that are not in use yet; they are abandoned when it fails."""
        try:
            await self._runner.along(others).run(others.blocks, inputs.only_last(others.blocks))
        except BaseException:
            abandon(others.step_failed())
            raise
        others.step_finished()

    def replace_late(
        self, hop: SessionHop, others: SessionHops, num_rows: int, *, since: float
    ) -> None:
        """Put others in the place of a hop that let a step wait until they had caught up.

        Raises:
            SessionLostError: there were too many losses in this step.
            SessionClosedError: the session was closed meanwhile.
        """
        peer = hop.session.hop.peer
        self._search.report_late(peer)
        self.adopt(hop, others, num_rows, "late", since=since)
        self.losses.add(peer, cause=SessionLostError(peer, hop.blocks), now=_now())

    def adopt(
        self, hop: SessionHop, others: SessionHops, num_rows: int, reason: str, *, since: float
    ) -> None:
        """Put others, which are where the hop is, in its place.

        Raises:
            SessionClosedError: the session was closed meanwhile.
        """
        hop.session.abandon()
        self._hops.adopt(hop, others)
        self._check_open()
        self._search.tell(HopLost(hop.session.hop.peer, hop.blocks, reason))
        num_replayed = hop.history.num_tokens * num_rows
        self._search.tell(HopRestored(hop.blocks, num_replayed, _now() - since, 0.0))

    async def _begin_anew(self, num_rows: int) -> None:
        """Open all hops, and run all that the session has run."""
        blocks = self._hops.blocks
        inputs = self._hops.inputs_until(self._hops.position, num_rows)
        sessions = await self._search.open(blocks, num_rows=num_rows, losses=self.losses)
        self._hops.replace_all(sessions)
        self._check_open()
        if inputs is not None:
            await self._runner.run_chunks(blocks, inputs.only_last(blocks))

    async def _replay_of(self, hop: SessionHop, rows: Tensor, losses: Losses) -> StepInputs | None:
        """Return what a hop was sent; it is computed where that was too much to keep."""
        if hop.history.is_complete:
            return hop.history.inputs_of(rows)
        num_rows = len(rows)
        inputs = self._hops.inputs_until(hop.history.num_tokens, num_rows)
        start = self._hops.blocks.start
        if inputs is None or hop.blocks.start == start:
            return None if inputs is None else _part(inputs, inputs.hidden, start, hop.blocks)
        before = BlockRange(start, hop.blocks.start)
        sessions = await self._search.open(before, num_rows=num_rows, losses=losses)
        others = SessionHops(sessions, self._search.latencies)
        try:
            part = _part(inputs, inputs.hidden, start, before)
            hidden = await self._runner.along(others).run(before, part)
        finally:
            abandon(others.step_failed())
        return _part(inputs, hidden, start, hop.blocks)

    async def _replace(self, hop: SessionHop, replay: StepInputs | None, num_rows: int) -> None:
        """Open other sessions over the blocks of a hop, and send them what it had been sent."""
        sessions = await self._search.open(hop.blocks, num_rows=num_rows, losses=self.losses)
        self._hops.replace(hop, sessions)
        self._check_open()
        if replay is not None:
            await self._runner.run_chunks(hop.blocks, replay.only_last(hop.blocks))

    def _check_open(self) -> None:
        """The session may have been closed meanwhile; the failed step abandons what was opened."""
        if self._is_stopped:
            raise SessionClosedError


def abandon(sessions: Iterable[HopSession]) -> None:
    """Drop them at once."""
    for session in sessions:
        session.abandon()


def _part(inputs: StepInputs, hidden: Tensor, start: int, blocks: BlockRange) -> StepInputs:
    """Return what goes into some blocks of a step that begins with the block `start`."""
    prompts = inputs.prompts
    if prompts is not None:
        prompts = prompts[blocks.start - start : blocks.end - start]
    return StepInputs(hidden, prompts)


def _now() -> float:
    return asyncio.get_running_loop().time()
