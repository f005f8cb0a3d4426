"""Forward and backward passes of whole batches: sub-batches run at once, each on its own route."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

import torch
from torch import Tensor

from swarm_client.errors import NoRouteError
from swarm_client.routing import Route
from swarm_client.settings import RoutingSettings
from swarm_client.training.span_calls import Gradients, SpanCalls
from swarm_client.training.span_walk import SpanPrompts, SpanSource, SpanWalk
from swarm_client.training.sub_batches import cut_into_sub_batches
from swarm_client.training.tape import SubBatchTape, Tape
from swarm_protocol.identifiers import BlockRange

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class ForwardResult:
    """`output` is on the CPU, in the servers' dtype; the tape does not hold it."""

    output: Tensor
    tape: Tape


class TrainingPasses:
    """Passes through the blocks of one model."""

    def __init__(
        self, source: SpanSource, calls: SpanCalls, settings: RoutingSettings, random: Random
    ) -> None:
        self._source = source
        self._calls = calls
        self._settings = settings
        self._random = random

    async def forward(
        self, hidden: Tensor, prompts: Tensor | None, blocks: BlockRange
    ) -> ForwardResult:
        """Run hidden states, checked by the caller, through `blocks`.

        Args:
            hidden: `[batch, num_tokens, hidden_size]`, any floating dtype and device. The tape
                keeps it, so it must not be changed before the backward pass.
            prompts: deep prompts `[len(blocks), batch or 1, num_prompts, hidden_size]`.
            blocks: not empty.

        Raises:
            NoRouteError, PeerError, RequestTooLargeError: see `SpanWalk`.
        """
        inputs = hidden.detach().cpu()
        if prompts is not None:
            prompts = prompts.detach().cpu().expand(-1, hidden.shape[0], -1, -1)

        async def run(rows: slice) -> tuple[SubBatchTape, Tensor]:
            walk = self._walk(prompts, blocks.start, rows)
            runs, output = await walk.forward(await self._route(blocks), inputs[rows])
            return SubBatchTape(rows, tuple(runs)), output

        sub_batches = list(cut_into_sub_batches(*hidden.shape[:2]))
        results = await self._run_all(run, sub_batches)
        tape = Tape(hidden.shape, blocks.start, prompts, tuple(tape for tape, _ in results))
        return ForwardResult(_join([output for _, output in results]), tape)

    async def backward(self, tape: Tape, grad_outputs: Tensor) -> Gradients:
        """Return the gradients of a forward pass, on the CPU and in the servers' dtype.

        Args:
            tape: of the forward pass; may be used again.
            grad_outputs: gradient of its output, in the same shape.

        Raises:
            ValueError: the shape is another.
            NoRouteError, PeerError, RequestTooLargeError: see `SpanWalk`.
        """
        if grad_outputs.shape != tape.shape:
            raise ValueError(f"expected gradients {tape.shape}, got {grad_outputs.shape}")
        grads = grad_outputs.detach().cpu()

        async def run(sub_batch: SubBatchTape) -> Gradients:
            walk = self._walk(tape.prompts, tape.first_block, sub_batch.rows)
            return await walk.backward(sub_batch.runs, grads[sub_batch.rows])

        results = await self._run_all(run, tape.sub_batches)
        of_prompts = [result.prompts for result in results if result.prompts is not None]
        return Gradients(
            _join([result.hidden for result in results]),
            _join(of_prompts, dim=1) if of_prompts else None,
        )

    async def _route(self, blocks: BlockRange) -> Route:
        try:
            return self._source.sample_route(blocks, excluded=())
        except NoRouteError:
            await self._source.refresh()
        return self._source.sample_route(blocks, excluded=())

    def _walk(self, prompts: Tensor | None, first_block: int, rows: slice) -> SpanWalk:
        of_rows = SpanPrompts(None if prompts is None else prompts[:, rows], first_block)
        return SpanWalk(self._source, self._calls, self._settings, self._random, of_rows)

    async def _run_all(
        self, run: Callable[[Item], Awaitable[Result]], items: Sequence[Item]
    ) -> list[Result]:
        """Run sub-batches at once, within bounds; the first error ends them all."""
        slots = asyncio.Semaphore(self._settings.max_sub_batches)

        async def run_in_slot(item: Item) -> Result:
            async with slots:
                return await run(item)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(run_in_slot(item)) for item in items]
        except BaseExceptionGroup as errors:
            first = errors.exceptions[0]
        else:
            return [task.result() for task in tasks]
        raise first  # the plain error, with its own cause


def _join(tensors: list[Tensor], dim: int = 0) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors, dim)
