"""The client side of one generation: a route, a position, and steps along the route.

Steps go hop by hop in the Petals dialect. When a hop fails, its peer is banned, all streams are
dropped and the session is closed; only a session whose first step has not succeeded yet, so that
nothing is lost, moves to another route by itself.
"""

import asyncio
from collections.abc import Sequence
from time import perf_counter
from typing import Final, Self
from uuid import uuid4

import torch
from torch import Tensor

from swarm_client.errors import (
    CapacityError,
    RollbackUnsupportedError,
    SessionClosedError,
    SessionLostError,
)
from swarm_client.models.facts import ModelFacts
from swarm_client.routing import Route
from swarm_client.session.chunks import cut_into_chunks
from swarm_client.session.hop_stream import HopStream, StepExtras
from swarm_client.session.progress import Progress
from swarm_client.session.route_search import RouteSearch
from swarm_client.session.step_checks import check_hidden, check_hypo_ids, check_prompts
from swarm_client.session.timings import HopTiming, StepTimings
from swarm_client.settings import RoutingSettings
from swarm_protocol.errors import DeadlineExceededError, PeerError, PeerRefusedError
from swarm_protocol.identifiers import BlockRange
from swarm_protocol.node import MAX_FRAME_BYTES

# Parts of what servers say when they have no room; PETALS_PROTOCOL §3.8 and our own servers.
_CAPACITY_TEXTS: Final = (
    "Could not allocate",
    "Cannot allocate",
    "attention cache is full",
    "its maximum of",
)


class InferenceSession:
    """An open session; also an async context manager. One step at a time.

    Made by `RemoteModel.open_session`. `last_step` holds the timings of the latest step, `blocks`
    are the blocks that every step runs through.
    """

    def __init__(
        self,
        search: RouteSearch,
        hops: Sequence[HopStream],
        facts: ModelFacts,
        settings: RoutingSettings,
        max_length: int,
        *,
        active_adapter: str | None = None,
    ) -> None:
        self.last_step = StepTimings()
        self.blocks = BlockRange(hops[0].hop.blocks.start, hops[-1].hop.blocks.end)
        self._search = search
        self._hops = hops
        self._facts = facts
        self._settings = settings
        self._progress = Progress(
            max_length=max_length, session_id=str(uuid4()), active_adapter=active_adapter
        )
        self._is_stepping = False
        self._is_closed = False

    @property
    def position(self) -> int:
        """Tokens in the servers' KV caches."""
        return self._progress.position

    @property
    def max_length(self) -> int:
        """Tokens that the KV caches may hold."""
        return self._progress.max_length

    @property
    def batch_size(self) -> int | None:
        """Rows of every step; None before the first one."""
        return self._progress.batch_size

    @property
    def is_closed(self) -> bool:
        """Whether it was closed, by its owner or by an error."""
        return self._is_closed

    @property
    def route(self) -> Route:
        """The servers in use, in order."""
        return tuple(stream.hop for stream in self._hops)

    @property
    def can_roll_back(self) -> bool:
        """Whether every server of the route has proved that it can shorten its KV cache."""
        return all(stream.description.can_roll_back for stream in self._hops)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def step(
        self, hidden: Tensor, *, prompts: Tensor | None = None, hypo_ids: Tensor | None = None
    ) -> Tensor:
        """Run tokens through all blocks and append them to the servers' KV caches.

        Long prefills are cut into chunks.

        Args:
            hidden: `[batch, num_tokens, hidden_size]`, any floating dtype and device.
            prompts: deep prompts `[len(blocks), batch or 1, num_prompts, hidden_size]`, added to
                the first tokens before each block; at position 0 only.
            hypo_ids: int64 `[batch]`: the row whose KV cache each row continues.

        Returns:
            The last block's output in the shape, dtype and device of `hidden`.

        Raises:
            MaxLengthExceededError, ValueError: nothing was sent; the session stays open.
            SessionLostError, CapacityError: a server failed or has no memory; now closed.
            NoRouteError, PeerError: so did all others, in the first step; now closed.
            SessionClosedError: it was closed before, or while this step was on its way.
        """
        self._check_step(hidden, prompts, hypo_ids)
        self._is_stepping = True
        try:
            output = await self._run_or_move(hidden, prompts, hypo_ids)
        except BaseException:
            self._abandon()
            raise
        finally:
            self._is_stepping = False
        self._progress.step_finished(hidden.shape[0])
        return output

    def roll_back(self, position: int) -> None:
        """Forget all tokens from `position` on; servers learn of it with the next step.

        Raises:
            RollbackUnsupportedError: see `can_roll_back`.
            ValueError: the position is not in `0..self.position`.
            SessionClosedError: the session is closed.
        """
        if self._is_closed:
            raise SessionClosedError
        if not self.can_roll_back:
            raise RollbackUnsupportedError
        self._progress.roll_back(position)

    async def close(self) -> None:
        """Free the servers' KV memory. Idempotent, bounded in time, never raises."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            if not self._is_stepping:
                async with asyncio.timeout(self._settings.close_timeout_s):
                    await asyncio.gather(*(stream.say_goodbye() for stream in self._hops))
        except TimeoutError:
            pass  # abandoning has the same effect on the server, only less politely
        finally:
            self._abandon()

    def _check_step(self, hidden: Tensor, prompts: Tensor | None, hypo_ids: Tensor | None) -> None:
        if self._is_closed:
            raise SessionClosedError
        if self._is_stepping:
            raise RuntimeError("a session takes one step at a time")
        check_hidden(hidden, self._facts, self._progress.batch_size)
        if prompts is not None:
            check_prompts(prompts, hidden, len(self.blocks), self.position)
        if hypo_ids is not None:
            check_hypo_ids(hypo_ids, hidden.shape[0])
        self._progress.check_room(hidden.shape[1])

    async def _run_or_move(
        self, hidden: Tensor, prompts: Tensor | None, hypo_ids: Tensor | None
    ) -> Tensor:
        """Run a step; while the session is fresh, a failure moves it to another route."""
        while True:
            try:
                return await self._run(hidden, prompts, hypo_ids)
            except (SessionLostError, CapacityError) as error:
                if not self._progress.is_fresh:
                    raise
                self._drop_streams()
                self._hops = await self._search.open_another(error.peer, error)
                self._progress.restart(session_id=str(uuid4()))

    async def _run(self, hidden: Tensor, prompts: Tensor | None, hypo_ids: Tensor | None) -> Tensor:
        batch_size, num_tokens, _ = hidden.shape
        inputs = hidden.detach().cpu()
        took_ms = [0.0] * len(self._hops)
        outputs: list[Tensor] = []
        for chunk in cut_into_chunks(
            num_tokens,
            batch_size=batch_size,
            chunk_tokens=self._settings.prefill_chunk_tokens,
            max_step_tokens=min(self._settings.max_step_tokens, _frame_tokens(hidden)),
            num_prompts=0 if prompts is None else prompts.shape[2],
        ):
            metadata = self._progress.metadata(step_id=str(uuid4())).to_wire()
            is_first = chunk.start == 0
            extras = (
                StepExtras(metadata, prompts, hypo_ids, self.blocks.start)
                if is_first
                else StepExtras(metadata)
            )
            outputs.append(await self._run_chunk(inputs[:, chunk], extras, took_ms))
            self._progress.chunk_finished(chunk.stop - chunk.start)
        self.last_step = StepTimings(
            tuple(
                HopTiming(hop.peer, hop.blocks, took)
                for hop, took in zip(self.route, took_ms, strict=True)
            )
        )
        output = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)
        return output.to(device=hidden.device, dtype=hidden.dtype)

    async def _run_chunk(self, hidden: Tensor, extras: StepExtras, took_ms: list[float]) -> Tensor:
        """Take a chunk along the route; adds each hop's time to its place in `took_ms`."""
        for index, stream in enumerate(self._hops):
            started_at = perf_counter()
            try:
                hidden = await stream.exchange(hidden, extras, self._settings.request_timeout_s)
            except (PeerError, DeadlineExceededError) as error:
                raise self._failure(stream, error) from error
            took_ms[index] += (perf_counter() - started_at) * 1e3
        return hidden

    def _failure(
        self, stream: HopStream, error: PeerError | DeadlineExceededError
    ) -> SessionLostError | CapacityError | SessionClosedError:
        """Return what a failed exchange means for the session; bans the peer if it is to blame."""
        if self._is_closed:  # we dropped the stream ourselves
            return SessionClosedError()
        hop = stream.hop
        if isinstance(error, PeerRefusedError) and any(t in error.reason for t in _CAPACITY_TEXTS):
            return CapacityError(hop.peer, hop.blocks)
        self._search.report_failure(hop.peer)
        return SessionLostError(hop.peer, hop.blocks)

    def _abandon(self) -> None:
        self._is_closed = True
        self._drop_streams()

    def _drop_streams(self) -> None:
        for stream in self._hops:
            stream.abandon()


def _frame_tokens(hidden: Tensor) -> int:
    """Return how many tokens fit into a frame as float32, with half of it left for the rest."""
    return MAX_FRAME_BYTES // 2 // (4 * hidden.shape[2])
