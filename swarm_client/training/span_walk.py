"""One sub-batch on its way through spans, forward and backward, around servers that fail.

A failed server is banned, and a new route is found over exactly the blocks it did not run. The
number of detours is bounded for each pass of a sub-batch, but for those around servers that cannot
be reached: records outlive their servers, so each is tried once, and again while blocks that nobody
serves are waited for. Anybody may announce servers, so these are bounded in time.
"""

import asyncio
from collections.abc import Collection, Sequence
from contextlib import suppress
from math import inf
from random import Random
from typing import Final, Protocol

import torch
from torch import Tensor

from swarm_client.errors import NoRouteError, ServerBusyError
from swarm_client.routing import Hop, Route
from swarm_client.session.losses import Losses
from swarm_client.settings import RoutingSettings
from swarm_client.training.span_calls import Gradients, SpanCalls
from swarm_client.training.tape import SpanRun
from swarm_protocol.errors import (
    DeadlineExceededError,
    PeerError,
    PeerUnreachableError,
    SwarmError,
)
from swarm_protocol.identifiers import BlockRange, PeerId

_FAILURES: Final = (PeerError, DeadlineExceededError, ServerBusyError)
_SHORTEST_DELAY_S: Final = 0.1  # but for the first one, which may be shorter
_LONGEST_DELAY_S: Final = 4.0  # unless the first one is longer


class SpanSource(Protocol):
    """Where routes for passes come from."""

    async def refresh(self) -> None:
        """Look the servers up again."""

    def sample_route(self, blocks: BlockRange, *, excluded: Collection[PeerId]) -> Route:
        """Return a random route over `blocks` without `excluded` peers. Raises NoRouteError."""

    def report_failure(self, peer: PeerId) -> None:
        """Ban a peer that did not do what it should."""


class SpanPrompts:
    """Deep prompts of a sub-batch, `[num_blocks, num_rows, num_prompts, hidden_size]`, or none."""

    def __init__(self, prompts: Tensor | None, first_block: int) -> None:
        self._prompts = prompts
        self._first_block = first_block

    def of(self, blocks: BlockRange) -> Tensor | None:
        """Return those of some blocks."""
        if self._prompts is None:
            return None
        return self._prompts[blocks.start - self._first_block : blocks.end - self._first_block]


class SpanWalk:
    """One pass of one sub-batch.

    Errors of both directions: NoRouteError when nobody else serves some blocks; the last PeerError,
    DeadlineExceededError or ServerBusyError when the detours are used up; RequestTooLargeError.
    """

    def __init__(
        self,
        source: SpanSource,
        calls: SpanCalls,
        settings: RoutingSettings,
        random: Random,
        prompts: SpanPrompts,
    ) -> None:
        self._source = source
        self._calls = calls
        self._settings = settings
        self._random = random
        self._prompts = prompts
        self._losses = Losses(
            max_losses=settings.max_retries,
            timeout_s=inf,  # a pass has no time of its own; each of its requests has
            wait_s=settings.wait_for_blocks_s,
        )
        self._unreachable: set[PeerId] = set()
        self._tries_until: float | None = None  # those that cannot be reached
        self._waits_until = -inf
        self._num_waits = 0

    async def forward(self, route: Sequence[Hop], hidden: Tensor) -> tuple[list[SpanRun], Tensor]:
        """Return the spans that were run, which may differ from `route`, and the last outputs."""
        runs: list[SpanRun] = []
        pending = list(reversed(route))
        while pending:
            hop = pending.pop()
            try:
                output = await self._calls.forward(hop, hidden, self._prompts.of(hop.blocks))
            except _FAILURES as error:
                pending += reversed(await self._find_detour(hop, error))
            else:
                runs.append(SpanRun(hop, hidden))
                hidden = output
        return runs, hidden

    async def backward(self, runs: Sequence[SpanRun], grad_outputs: Tensor) -> Gradients:
        """Return the gradients of the first span's inputs, and of all spans' prompts."""
        grad = grad_outputs
        prompt_grads: list[Tensor] = []
        pending = list(runs)
        while pending:
            run = pending.pop()
            prompts = self._prompts.of(run.hop.blocks)
            try:
                grads = await self._calls.backward(run.hop, run.inputs, grad, prompts)
            except _FAILURES as error:
                pending += await self._run_again(run, error)
            else:
                grad = grads.hidden
                if grads.prompts is not None:
                    prompt_grads.append(grads.prompts)
        return Gradients(grad, torch.cat(prompt_grads[::-1]) if prompt_grads else None)

    async def _run_again(self, lost: SpanRun, cause: SwarmError) -> list[SpanRun]:
        """Return other runs for the same blocks.

        Only inputs are needed, so the last span of the detour is not run forward; mostly that
        leaves nothing to do.
        """
        *before, last = await self._find_detour(lost.hop, cause)
        runs, hidden = await self.forward(before, lost.inputs)
        return [*runs, SpanRun(last, hidden)]

    async def _find_detour(self, lost: Hop, cause: SwarmError) -> Route:
        """Return a route over the blocks of a server that failed, banned if it is to blame."""
        if not isinstance(cause, ServerBusyError):
            self._source.report_failure(lost.peer)
        now = asyncio.get_running_loop().time
        is_forgiven = isinstance(cause, PeerUnreachableError) and self._forgives(lost.peer, now())
        self._losses.add(lost.peer, cause=cause, now=now(), is_unanswered=is_forgiven)
        with suppress(NoRouteError):
            return self._sample_route(lost.blocks)
        wait = self._losses.begin_waiting(now())
        self._waits_until = wait.ends_at
        while True:
            await self._wait_for_servers()
            try:
                return self._sample_route(lost.blocks)
            except NoRouteError as gap:
                self._losses.wait_left_s(wait, gap, now())

    def _forgives(self, peer: PeerId, now: float) -> bool:
        """Tell whether a peer that cannot be reached uses up no detour; it has been tried then."""
        if self._tries_until is None:
            self._tries_until = now + self._settings.repair_timeout_s
        is_new = peer not in self._unreachable and now < self._tries_until
        self._unreachable.add(peer)
        return is_new or now < self._waits_until

    def _sample_route(self, blocks: BlockRange) -> Route:
        return self._source.sample_route(blocks, excluded=self._losses.failed)

    async def _wait_for_servers(self) -> None:
        """Give new servers, and those that failed, some time; then try them all again."""
        delay_s = self._settings.retry_delay_s
        if self._num_waits:
            longest_s = max(delay_s, _LONGEST_DELAY_S)
            delay_s = max(delay_s, _SHORTEST_DELAY_S / 2) * 2.0 ** min(self._num_waits, 30)
            delay_s = min(delay_s, longest_s)
        self._num_waits += 1
        await asyncio.sleep(delay_s * self._random.uniform(0.5, 1.0))
        with suppress(DeadlineExceededError):  # of the DHT; what was known stays
            await self._source.refresh()
        self._losses.failed.clear()
