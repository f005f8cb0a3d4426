"""One inference session on the server: its KV cache, and its steps on the compute thread."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor

from swarm_protocol.errors import MalformedMessageError
from swarm_server.engine import ComputeThread, Span
from swarm_server.engine.span import Step
from swarm_server.errors import CopiesDisagreeError
from swarm_server.handlers.opening import Opening
from swarm_server.handlers.session_rules import SessionRules
from swarm_server.handlers.step_request import StepRequest, read_step

_MAX_UNCONFIRMED: Final = 4
_PRECISION: Final = 2.0**-6
"""By how much copies of a step may differ, relatively: somewhere a copy may be rounded to bfloat16,
whose values are 2**-7 apart."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Hidden states after a step, and whether it had deep prompts."""

    hidden: Tensor
    has_prompts: bool


@dataclass(frozen=True, slots=True)
class _CheckedStep:
    """A step that may run, from this position on."""

    step: Step
    position: int


class ServedSession:
    """Runs the steps of one session, one at a time: whoever calls waits for the one before."""

    def __init__(self, opening: Opening, span: Span, compute: ComputeThread) -> None:
        self._opening = opening
        self._span = span
        self._compute = compute
        self._rules = SessionRules(
            opening.uid, batch_size=opening.batch_size, max_length=opening.max_length
        )
        self._kv = span.new_kv(
            opening.blocks, batch_size=opening.batch_size, max_length=opening.max_length
        )
        self._running: Future[Tensor] | None = None
        self._unconfirmed: dict[str, Step] = {}  # pushed steps whose copy has not come yet

    @property
    def position(self) -> int:
        """Tokens in the KV cache."""
        return self._kv.position

    async def step(self, request: StepRequest) -> Outcome | None:
        """Run a step of the caller; None for a repeated one, which gets no reply.

        Raises:
            RequestRefusedError, MalformedMessageError: the step fails a check, or differs from
                what was pushed in its name; nothing has run.
        """
        self._rules.check_uid(request.uid)
        if self._rules.is_repeated(request.metadata.step_id):
            self._confirm(request)
            return None
        return await self._run(self._check(request))

    async def take_push(self, request: StepRequest) -> Outcome | None:
        """Run a step that another server has pushed; None when it has run already.

        Raises:
            RequestRefusedError, MalformedMessageError: the step fails a check; nothing has changed.
        """
        step_id = request.metadata.step_id
        if not request.uid or step_id is None:
            raise MalformedMessageError("a pushed step names its blocks and has a step_id")
        self._rules.check_uid(request.uid)
        if self._rules.has_seen(step_id):
            return None
        checked = self._check(request)
        self._rules.is_repeated(step_id)
        self._unconfirmed[step_id] = checked.step
        if len(self._unconfirmed) > _MAX_UNCONFIRMED:
            self._unconfirmed.pop(next(iter(self._unconfirmed)))
        return await self._run(checked)

    def close(self, release: Callable[[], None]) -> None:
        """Call `release` when no step uses the KV cache any more.

        That is now, or, if the caller has left in the middle of a step, when that step ends.
        """
        loop = asyncio.get_running_loop()
        if self._running is None or self._running.done():
            release()
        else:
            self._running.add_done_callback(lambda _: loop.call_soon_threadsafe(release))

    def _check(self, request: StepRequest) -> _CheckedStep:
        step = read_step(request, self._opening.structure, self._opening.limits)
        position = self._rules.starting_position(request.metadata, self._kv.position)
        self._rules.check_step(step.hidden.shape[0], step.hidden.shape[1], position)
        return _CheckedStep(replace(step, adapter=self._opening.adapter), position)

    def _confirm(self, request: StepRequest) -> None:
        """Compare the caller's copy with a step that was pushed."""
        step_id = request.metadata.step_id
        pushed = None if step_id is None else self._unconfirmed.pop(step_id, None)
        if pushed is None or step_id is None:
            return
        own = read_step(request, self._opening.structure, self._opening.limits)
        if not _are_copies(own, pushed):
            raise CopiesDisagreeError(step_id)

    async def _run(self, checked: _CheckedStep) -> Outcome:
        self._running = self._compute.submit(lambda: self._compute_step(checked))
        hidden = await asyncio.wrap_future(self._running)
        return Outcome(hidden, has_prompts=checked.step.prompts is not None)

    def _compute_step(self, checked: _CheckedStep) -> Tensor:
        self._kv.truncate(checked.position)
        return self._span.run(self._opening.blocks, self._kv, checked.step)


def _are_copies(one: Step, other: Step) -> bool:
    """Tell whether two steps are the same but for rounding."""
    return all(
        _are_close(*pair)
        for pair in (
            (one.hidden, other.hidden),
            (one.prompts, other.prompts),
            (one.hypo_ids, other.hypo_ids),
        )
    )


def _are_close(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    if one.shape != other.shape:
        return False
    return torch.allclose(
        one.double(), other.double(), rtol=_PRECISION, atol=_PRECISION**2, equal_nan=True
    )
