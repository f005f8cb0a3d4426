"""The training loop: AdamW with a cosine schedule, bounded by time and by steps.

Knows rows of token ids and a causal language model; nothing of text or files.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from transformers import LlamaForCausalLM

from models.training.documents import PADDING_ID

_WARMUP_STEPS = 100
_FINAL_SHARE = 0.03  # of the learning rate, at the end
_MAX_GRADIENT_NORM = 1.0
_VALIDATION_ROWS = 40
_VALIDATION_ROWS_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Budget:
    """Training ends with whichever is used up first."""

    seconds: float
    max_steps: int

    def used(self, seconds: float, num_steps: int) -> float:
        """The used share, 1.0 or more when there is nothing left."""
        return max(seconds / self.seconds, num_steps / self.max_steps)


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the training stands. Losses are mean nats per token."""

    num_steps: int
    took_s: float
    training_loss: float
    validation_loss: float


class Trainer:
    """Trains one model on one device; `report` is called every `report_steps` and at the end.

    The model is trained in place, in float32; matrix products run in bfloat16 on CUDA.
    """

    def __init__(
        self,
        model: LlamaForCausalLM,
        rows: Tensor,
        validation_rows: Tensor,
        *,
        rows_per_step: int,
        learning_rate: float,
        report_steps: int,
        report: Callable[[Progress], None],
    ) -> None:
        self._model = model
        self._device = torch.device(model.device)
        self._rows = rows.to(self._device)  # int32 [num_rows, row_length]
        self._validation_rows = validation_rows[:_VALIDATION_ROWS].to(self._device)
        self._rows_per_step = rows_per_step
        self._learning_rate = learning_rate
        self._report_steps = report_steps
        self._report = report
        self._optimizer = self._make_optimizer()

    def run(self, budget: Budget, *, clock: Callable[[], float] = time.monotonic) -> Progress:
        """Train until the budget is used up, at least one step; returns the last report."""
        started = clock()
        order = self._shuffled_rows()
        num_steps, used = 0, 0.0
        while used < 1.0:
            self._set_learning_rate(num_steps, used)
            loss = self._step(next(order))
            num_steps += 1
            used = budget.used(clock() - started, num_steps)
            if num_steps % self._report_steps == 0 or used >= 1.0:
                progress = Progress(
                    num_steps, clock() - started, loss.item(), self.validation_loss()
                )
                self._report(progress)
        return progress

    @torch.no_grad()
    def validation_loss(self) -> float:
        """Mean nats per token over the validation rows."""
        chunks = torch.split(self._validation_rows, _VALIDATION_ROWS_AT_ONCE)
        weights = [int((chunk != PADDING_ID).sum()) for chunk in chunks]
        losses = [self._loss(chunk).item() for chunk in chunks]
        return sum(map(math.prod, zip(losses, weights, strict=True))) / sum(weights)

    def _make_optimizer(self) -> torch.optim.AdamW:
        parameters = list(self._model.parameters())
        groups = [
            {"params": [p for p in parameters if p.dim() > 1], "weight_decay": 0.1},
            {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=self._learning_rate, betas=(0.9, 0.95), fused=True)

    def _shuffled_rows(self) -> Iterator[Tensor]:
        """Batches [rows_per_step, row_length] without end; a new order for every pass."""
        while True:
            for row_indices in torch.split(torch.randperm(len(self._rows)), self._rows_per_step):
                yield self._rows[row_indices.to(self._device)]

    def _set_learning_rate(self, num_steps: int, used: float) -> None:
        warmup = min(1.0, (num_steps + 1) / _WARMUP_STEPS)
        cosine = 0.5 * (1 + math.cos(math.pi * used))
        share = warmup * (_FINAL_SHARE + (1 - _FINAL_SHARE) * cosine)
        for group in self._optimizer.param_groups:
            group["lr"] = self._learning_rate * share

    def _step(self, rows: Tensor) -> Tensor:
        loss = self._loss(rows)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), _MAX_GRADIENT_NORM)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    def _loss(self, rows: Tensor) -> Tensor:
        """Mean nats per token that is not padding; scalar float32."""
        token_ids = rows.long()
        is_cuda = self._device.type == "cuda"
        with torch.autocast(self._device.type, torch.bfloat16, enabled=is_cuda):
            logits: Tensor = self._model(input_ids=token_ids[:, :-1], use_cache=False).logits
        return functional.cross_entropy(
            logits.flatten(0, 1).float(), token_ids[:, 1:].flatten(), ignore_index=PADDING_ID
        )
