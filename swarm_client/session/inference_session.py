"""The client side of one generation: a route, a position, and steps along the route.

A hop that is lost is replaced by other servers of exactly its blocks, which are sent what it had
been sent; the other hops go on and notice nothing. What to send to whom is decided by
`SessionHops`; here it is done.
"""

import asyncio
from collections.abc import Sequence
from time import monotonic
from typing import Self

from torch import Tensor

from swarm_client.errors import MaxLengthExceededError, SessionClosedError
from swarm_client.models.facts import ModelFacts
from swarm_client.routing import Route
from swarm_client.routing.slowness import SlowRule
from swarm_client.session.hop_session import StepInputs
from swarm_client.session.losses import Losses
from swarm_client.session.moves import Moves
from swarm_client.session.prefixes import match_prefix
from swarm_client.session.repairs import abandon
from swarm_client.session.route_search import RouteSearch
from swarm_client.session.session_hops import SessionHops
from swarm_client.session.step_checks import check_hidden, check_hypo_ids, check_prompts
from swarm_client.session.step_runner import StepRunner
from swarm_client.session.timings import StepTimings
from swarm_client.settings import RoutingSettings
from swarm_protocol.identifiers import BlockRange


class InferenceSession:
    """An open session; also an async context manager. One step at a time.

    `blocks` are the blocks that every step runs through, `max_length` the tokens that the KV caches
    may hold.
    """

    def __init__(
        self, search: RouteSearch, hops: SessionHops, facts: ModelFacts, settings: RoutingSettings
    ) -> None:
        self._search = search
        self._hops = hops
        self._runner = StepRunner(search, hops, settings)
        repairs = self._runner.repairs
        rule = SlowRule(
            factor=settings.slow_factor,
            margin_s=settings.slow_margin_s,
            look_s=settings.slow_look_s,
            rest_s=settings.slow_rest_s,
        )
        self._moves = Moves(search, rule, repairs.open_elsewhere, repairs.run_along)
        self._facts = facts
        self._settings = settings
        self.blocks = hops.blocks
        self.max_length = search.max_length
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
        losses = Losses(
            max_losses=settings.max_retries,
            timeout_s=settings.repair_timeout_s,
            wait_s=search.opening_wait_s,
        )
        sessions = await search.open(blocks, num_rows=num_rows, losses=losses)
        return cls(search, SessionHops(sessions, search.latencies), facts, settings)

    @property
    def position(self) -> int:
        """Tokens that the next ones follow."""
        return self._hops.position

    @property
    def last_step(self) -> StepTimings:
        """Times of the latest step; of one that is under way or has failed, those so far."""
        return self._hops.timings()

    @property
    def num_rows(self) -> int | None:
        """Rows of every step; None while any number will do."""
        return self._hops.num_rows

    @property
    def history_bytes(self) -> int:
        """Of the inputs that are kept to make up for servers that are lost."""
        return self._hops.num_bytes

    @property
    def num_history_spills(self) -> int:
        """How often they were too many to keep all of them."""
        return self._hops.num_spills

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
        self,
        hidden: Tensor,
        *,
        prompts: Tensor | None = None,
        hypo_ids: Tensor | None = None,
        only_last: bool = False,
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
            only_last: only outputs of each row's last token are wanted, as of a prompt. Servers
                that know it send no others.

        Returns:
            The last block's output in the shape, dtype and device of `hidden`; with `only_last`
            `[batch, 1, hidden_size]`.

        Raises:
            MaxLengthExceededError, ValueError: nothing was sent.
            NoRouteError: a server was lost, and no other one has its blocks.
            SessionLostError: there were too many losses, or the inputs were too many to keep.
            CapacityError, PeerError: so did the servers fail that were to take over.
            SessionClosedError: it was closed before, or while this step was on its way.
        """
        self._check_step(hidden, prompts, hypo_ids)
        only_last_at = self.blocks.end if only_last else None
        inputs = StepInputs.copied(hidden, prompts, hypo_ids, only_last_at)
        self._is_stepping = True
        try:
            if self._moves.is_under_way:
                await self._change_servers(inputs.num_rows)
            output = await self._runner.run(self.blocks, inputs)
        except BaseException:
            abandon(self._hops.step_failed())
            self._is_closed |= self.position > 0 and not self._hops.is_complete
            if self._is_closed:
                self._hops.forget()
            raise
        finally:
            self._is_stepping = False
        self._hops.step_finished()
        self._hops.limit_history(self._settings.max_history_bytes)
        self._moves.consider(self._hops, inputs.num_rows, monotonic())
        return output.to(hidden)

    async def close(self) -> None:
        """Free the servers' KV memory. Idempotent, bounded in time, never raises."""
        if self._is_closed:
            return
        self._is_closed = True
        self._runner.repairs.stop()
        try:
            await self._moves.drop()
            if not self._is_stepping:
                await asyncio.gather(*(hop.session.close() for hop in self._hops))
        finally:
            abandon(hop.session for hop in self._hops)
            if not self._is_stepping:  # else the step, which fails now, needs them once more
                self._hops.forget()

    async def _change_servers(self, num_rows: int) -> None:
        """Let others take over that have been brought up to date beside the steps."""
        began_at = asyncio.get_running_loop().time()
        if moved := await self._moves.take(self._hops, num_rows):
            self._runner.repairs.adopt(
                moved.hop, moved.others, num_rows, moved.reason, since=began_at
            )

    def _check_step(self, hidden: Tensor, prompts: Tensor | None, hypo_ids: Tensor | None) -> None:
        if self._is_closed:
            raise SessionClosedError
        if self._is_stepping:
            raise RuntimeError("a session takes one step at a time")
        hops = self._hops
        check_hidden(hidden, self._facts, hops.num_rows)
        if prompts is not None:
            check_prompts(prompts, hidden, len(self.blocks), hops.position)
        if hypo_ids is not None:
            check_hypo_ids(hypo_ids, len(hidden))
        if hops.position + hidden.shape[1] > self.max_length:
            raise MaxLengthExceededError(hops.position, hidden.shape[1], self.max_length)
