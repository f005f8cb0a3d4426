"""One inference session of the Petals dialect: which of its steps may run, and what they give."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from swarm_protocol.errors import MalformedMessageError
from swarm_server.engine.serving import EngineSession
from swarm_server.engine.serving.requests import Step
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
class CheckedStep:
    """A step that may run, from this position on."""

    step: Step
    position: int


class ServedSession:
    """The steps of one session, one at a time: whoever calls waits for the one before."""

    def __init__(self, opening: Opening, computed: EngineSession) -> None:
        """Take over a session of the engine, opened for `opening`."""
        self._opening = opening
        self._computed = computed
        self._rules = SessionRules(
            opening.uid, batch_size=opening.batch_size, max_length=opening.max_length
        )
        self._unconfirmed: dict[str, Step] = {}  # pushed steps whose copy has not come yet

    @property
    def position(self) -> int:
        """Tokens in the KV cache."""
        return self._computed.position

    def accept(self, request: StepRequest) -> CheckedStep | None:
        """Return a step of the caller, to be run; None for a repeated one, which gets no reply.

        Raises:
            RequestRefusedError, MalformedMessageError: the step fails a check, or differs from
                what was pushed in its name.
        """
        self._rules.check_uid(request.uid)
        if self._rules.is_repeated(request.metadata.step_id):
            self._confirm(request)
            return None
        return self._check(request)

    def accept_push(self, request: StepRequest) -> CheckedStep | None:
        """Return a step that another server has pushed; None when it has run already.

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
        return checked

    async def run(self, checked: CheckedStep) -> Outcome:
        """Run a step that has been accepted.

        Raises:
            SwarmError: of `EngineSession.submit`.
        """
        result = await self._computed.submit(checked.step, position=checked.position)
        return Outcome(result.hidden, has_prompts=checked.step.prompts is not None)

    def close(self, release: Callable[[], None]) -> None:
        """End the session; `release` is called when no step uses its KV memory any more.

        That is now, or, if the caller has left in the middle of a step, when that step ends.
        """
        self._computed.close(release)

    def _check(self, request: StepRequest) -> CheckedStep:
        step = read_step(request, self._opening.structure, self._opening.limits)
        position = self._rules.starting_position(request.metadata, self.position)
        self._rules.check_step(step.hidden.shape[0], step.hidden.shape[1], position)
        return CheckedStep(step, position)

    def _confirm(self, request: StepRequest) -> None:
        """Compare the caller's copy with a step that was pushed."""
        step_id = request.metadata.step_id
        pushed = None if step_id is None else self._unconfirmed.pop(step_id, None)
        if pushed is None or step_id is None:
            return
        own = read_step(request, self._opening.structure, self._opening.limits)
        if not _are_copies(own, pushed):
            raise CopiesDisagreeError(step_id)


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
