"""What went into a session, so that it can be sent again. Pure; knows neither servers nor time."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class StepInputs:
    """Inputs of one step.

    Attributes:
        hidden: `[batch, num_tokens, hidden_size]`, on the CPU.
        prompts: deep prompts `[num_blocks, batch or 1, num_prompts, hidden_size]`.
        hypo_ids: int64 `[batch]`: the earlier row that each row continues; None is its own.
    """

    hidden: Tensor
    prompts: Tensor | None = None
    hypo_ids: Tensor | None = None


class History:
    """The inputs of all steps of a session, up to a number of bytes; beyond it, none.

    Rows are those of the servers' KV caches: what a step reorders stays reordered, also after
    that step has been forgotten.
    """

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._steps: list[StepInputs] = []
        self._row_order: Tensor | None = None  # of forgotten steps: applies after the last one
        self._is_complete = True

    @property
    def is_complete(self) -> bool:
        """Whether everything was kept."""
        return self._is_complete

    def append(self, step: StepInputs) -> None:
        """Keep the inputs of a step that has succeeded; they must not be changed afterwards."""
        hypo_ids = follow(self._row_order, step.hypo_ids)
        self._row_order = None
        self._num_bytes += step.hidden.nbytes
        if not self._is_complete or self._num_bytes > self._max_bytes:
            self._steps.clear()
            self._is_complete = False
        else:
            self._steps.append(StepInputs(step.hidden, step.prompts, hypo_ids))

    def truncate(self, position: int) -> None:
        """Forget the tokens from `position` on. With position 0, keeping begins anew."""
        self._is_complete = self._is_complete or position == 0
        kept: list[StepInputs] = []
        forgotten_order: Tensor | None = None
        for step in self._steps:
            if position == 0:
                forgotten_order = follow(forgotten_order, step.hypo_ids)
                continue
            kept.append(_first_tokens(step, position))
            position -= kept[-1].hidden.shape[1]
        self._row_order = follow(forgotten_order, self._row_order)
        self._restart(kept)

    def inputs_of(self, rows: Tensor) -> StepInputs | None:
        """Return all that these rows have come through, as one step; None for nothing.

        Args:
            rows: int64 `[num_rows]`, in any order and number.
        """
        rows = rows if self._row_order is None else self._row_order[rows]
        parts: list[Tensor] = []
        prompts = None
        for step in reversed(self._steps):
            parts.append(step.hidden[rows])
            prompts = _prompts_of(step.prompts, rows)
            rows = rows if step.hypo_ids is None else step.hypo_ids[rows]
        return StepInputs(torch.cat(parts[::-1], dim=1), prompts) if parts else None

    def replace(self, step: StepInputs | None) -> None:
        """Forget everything, and begin with a step in place of it."""
        self._row_order = None
        self._restart([] if step is None else [step])

    def _restart(self, steps: list[StepInputs]) -> None:
        self._steps = steps
        self._num_bytes = sum(step.hidden.nbytes for step in steps)


def follow(first: Tensor | None, then: Tensor | None) -> Tensor | None:
    """Return the one reordering of rows that does what two do; None changes nothing."""
    if first is None or then is None:
        return then if first is None else first
    return first[then]


def _first_tokens(step: StepInputs, num_tokens: int) -> StepInputs:
    if num_tokens >= step.hidden.shape[1]:
        return step
    prompts = None if step.prompts is None else step.prompts[:, :, :num_tokens]
    return StepInputs(step.hidden[:, :num_tokens].clone(), prompts, step.hypo_ids)


def _prompts_of(prompts: Tensor | None, rows: Tensor) -> Tensor | None:
    return prompts if prompts is None or prompts.shape[1] == 1 else prompts[:, rows]
