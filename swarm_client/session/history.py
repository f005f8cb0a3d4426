"""What went into a hop's blocks, so that it can be sent again. Pure; knows no servers, no time."""

import torch
from torch import Tensor

from swarm_client.session.hop_session import StepInputs


class History:
    """The inputs of all steps of one hop, until it is told to forget them.

    Rows are those of the server's KV cache: what a step reorders stays reordered, also after that
    step has been rolled back.

    Attributes:
        num_tokens: in the KV cache, kept or not.
        num_bytes: of the inputs kept.
        is_complete: nothing was forgotten.
        num_cuts: how often steps were taken back or forgotten. While it stays, steps are only
            added.
    """

    def __init__(self) -> None:
        self.num_tokens = 0
        self.num_bytes = 0
        self.is_complete = True
        self.num_cuts = 0
        self._steps: list[StepInputs] = []

    def skip(self, num_tokens: int) -> None:
        """Begin behind tokens whose inputs were never known."""
        self.num_tokens = num_tokens
        self.forget()

    def append(self, step: StepInputs) -> None:
        """Keep the inputs of a step that has succeeded; they must not be changed afterwards."""
        self.num_tokens += step.num_tokens
        if self.is_complete:
            self.num_bytes += step.hidden.nbytes
            self._steps.append(step)

    def truncate(self, position: int) -> None:
        """Forget the tokens from `position` on. With position 0, keeping begins anew."""
        self.num_cuts += 1
        row_order = None
        while self._steps and self.num_tokens - self._steps[-1].num_tokens >= position:
            row_order = follow(self._pop().hypo_ids, row_order)
        if self._steps and position < self.num_tokens:
            num_tokens = self.num_tokens - position
            self.append(_without_last(self._pop(), num_tokens))
        if self._steps and row_order is not None:  # a step without tokens keeps it
            self._steps.append(StepInputs(self._steps[-1].hidden[:, :0], None, row_order))
        self.num_tokens = position
        self.is_complete = self.is_complete or position == 0

    def undo(self, position: int) -> None:
        """Forget the steps since `position`, which have not happened, row orders included."""
        self.num_cuts += 1
        while self._steps and self.num_tokens > position:
            self._pop()
        self.num_tokens = position
        self.is_complete = self.is_complete or position == 0

    def _pop(self) -> StepInputs:
        step = self._steps.pop()
        self.num_tokens -= step.num_tokens
        self.num_bytes -= step.hidden.nbytes
        return step

    def forget(self) -> None:
        """Keep nothing any more, until it begins anew at position 0."""
        self.is_complete = False
        self.num_cuts += 1
        self.num_bytes = 0
        self._steps.clear()

    @property
    def num_steps(self) -> int:
        """Steps that are kept."""
        return len(self._steps)

    def inputs_since(self, num_steps: int) -> list[StepInputs]:
        """Return what came after the first steps, in as few steps as will do.

        Args:
            num_steps: those before, > 0.
        """
        assert self.is_complete
        since = self._steps[num_steps:]
        if len(since) < 2 or any(step.hypo_ids is not None for step in since):
            return since
        return [StepInputs(torch.cat([step.hidden for step in since], dim=1))]

    def of_rows(self, rows: Tensor) -> "History":
        """Return what these rows have come through, as a history of one step.

        One that has forgotten something is the same for any rows.
        """
        if not self.is_complete:
            return self
        history = History()
        inputs = self.inputs_of(rows)
        if inputs is not None:
            history.append(inputs)
        return history

    def inputs_of(self, rows: Tensor) -> StepInputs | None:
        """Return all that these rows have come through, as one step; None for nothing.

        Args:
            rows: int64 `[num_rows]`, in any order and number.
        """
        assert self.is_complete
        parts: list[Tensor] = []
        prompts = None
        for step in reversed(self._steps):
            parts.append(step.hidden[rows])
            prompts = _prompts_of(step.prompts, rows)
            rows = rows if step.hypo_ids is None else step.hypo_ids[rows]
        return StepInputs(torch.cat(parts[::-1], dim=1), prompts) if parts else None


def follow(first: Tensor | None, then: Tensor | None) -> Tensor | None:
    """Return the one reordering of rows that does what two do; None changes nothing."""
    if first is None or then is None:
        return then if first is None else first
    return first[then]


def _without_last(step: StepInputs, num_tokens: int) -> StepInputs:
    end = step.num_tokens - num_tokens
    prompts = None if step.prompts is None else step.prompts[:, :, :end]
    return StepInputs(step.hidden[:, :end].clone(), prompts, step.hypo_ids)


def _prompts_of(prompts: Tensor | None, rows: Tensor) -> Tensor | None:
    return prompts if prompts is None or prompts.shape[1] == 1 else prompts[:, rows]
