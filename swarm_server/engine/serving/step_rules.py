"""What the tensors of a session's steps must look like. Pure."""

from dataclasses import dataclass

import torch
from torch import Tensor

from swarm_protocol.rows import Rows
from swarm_server.engine.serving.requests import SessionRequest, StepTensors
from swarm_server.errors import InvalidStepError, MaxLengthExceededError


@dataclass(frozen=True, slots=True)
class StepRules:
    """The rules of one session."""

    request: SessionRequest
    hidden_size: int

    def check(self, step: StepTensors, rows: Rows, *, position: int, num_rows: int) -> None:
        """Return when a step of these rows fits a session that has so many now.

        Raises:
            MaxLengthExceededError: it ends beyond what the session has asked for.
            InvalidStepError: a tensor has another shape, or names rows that there are not.
        """
        memory, _, new_rows, num_tokens = rows
        if memory.shape[1] != self.hidden_size:
            expected = f"[num_rows, num_tokens, {self.hidden_size}]"
            raise InvalidStepError.shape("hidden states", expected, rows.hidden.shape)
        if position + num_tokens > self.request.max_length:
            raise MaxLengthExceededError(position, num_tokens, self.request.max_length)
        if step.hypo_ids is not None:
            self._check_hypo_ids(step.hypo_ids, new_rows, num_rows)
        elif new_rows != num_rows:
            expected = f"[{num_rows}, num_tokens, {self.hidden_size}]"
            raise InvalidStepError.shape("hidden states", expected, rows.hidden.shape)
        if step.prompts is not None:
            self._check_prompts(step.prompts, new_rows, num_tokens)

    def _check_hypo_ids(self, hypo_ids: Tensor, new_rows: int, num_rows: int) -> None:
        if hypo_ids.dtype != torch.int64 or hypo_ids.shape != (new_rows,):
            raise InvalidStepError.shape("hypo ids", f"[{new_rows}]", hypo_ids.shape)
        if not 1 <= new_rows <= self.request.num_rows:
            raise InvalidStepError(f"a session of {self.request.num_rows} rows got {new_rows}")
        if int(hypo_ids.min()) < 0 or int(hypo_ids.max()) >= num_rows:
            raise InvalidStepError(f"hypo ids must be in 0..{num_rows - 1}")

    def _check_prompts(self, prompts: Tensor, new_rows: int, num_tokens: int) -> None:
        num_blocks, size = len(self.request.blocks), self.hidden_size
        fits = (
            prompts.dim() == 4
            and prompts.shape[0] == num_blocks
            and prompts.shape[1] in (1, new_rows)
            and prompts.shape[2] <= num_tokens
            and prompts.shape[3] == size
        )
        if not fits:
            expected = f"[{num_blocks}, 1 or {new_rows}, at most {num_tokens}, {size}]"
            raise InvalidStepError.shape("prompts", expected, prompts.shape)
