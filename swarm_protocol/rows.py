"""Hidden states of one step, within a tensor that holds those of many.

    memory    | A A | B | C C C C |      [num_tokens, hidden_size], of a frame or a batch
    rows      2 x 1   1   2 x 2          A has two rows of one token each, C two of two

Knows no frames and no sessions.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Rows(NamedTuple):
    """`num_tokens` of each of `num_rows`, one row after the other, from `memory[start]` on.

    A tuple, because frames and batches have many: torch takes longer to make a view, and much
    longer to see that views lie side by side. Whoever keeps one for long keeps all of `memory`,
    [any number, hidden_size], and should copy it.
    """

    memory: Tensor
    start: int
    num_rows: int
    num_tokens: int

    @classmethod
    def of(cls, hidden: Tensor) -> "Rows":
        """Return `[num_rows, num_tokens, hidden_size]` as rows; a copy where it is strided."""
        num_rows, num_tokens, hidden_size = hidden.shape
        return cls(hidden.reshape(num_rows * num_tokens, hidden_size), 0, num_rows, num_tokens)

    @property
    def hidden(self) -> Tensor:
        """A view of them, `[num_rows, num_tokens, hidden_size]`."""
        memory, start, num_rows, num_tokens = self
        used = memory[start : start + num_rows * num_tokens]
        return used.view(num_rows, num_tokens, memory.shape[1])

    def cut(self, first: int, end: int) -> "Rows":
        """Return tokens `[first, end)` of each row; a copy unless there is one row."""
        if self.num_rows == 1:
            return Rows(self.memory, self.start + first, 1, end - first)
        return Rows.of(self.hidden[:, first:end])


def join_rows(parts: Sequence[Rows]) -> Tensor:
    """Return the tokens of all parts, `[num_tokens, hidden_size]`.

    A view, if the parts lie side by side, as outputs of one batch and steps of one frame do.
    """
    runs, (memory, start, num_rows, num_tokens) = list[Tensor](), parts[0]
    if len(parts) == 1 and num_rows * num_tokens == len(memory):  # as of one session alone
        return memory
    end = start
    for part_memory, part_start, num_rows, num_tokens in parts:
        if part_memory is not memory or part_start != end:
            runs.append(memory[start:end])
            memory, start, end = part_memory, part_start, part_start
        end += num_rows * num_tokens
    runs.append(memory[start:end])
    return runs[0] if len(runs) == 1 else torch.cat(runs)


def copy_tokens(parts: Sequence[Rows]) -> Rows:
    """Return the tokens of parts of equal `num_rows`, one part after the other in each row.

    They are in memory of their own.
    """
    if parts[0].num_rows > 1:
        return Rows.of(torch.cat([part.hidden for part in parts], 1))
    memory = torch.cat([memory[start : start + size] for memory, start, _, size in parts])
    return Rows(memory, 0, 1, len(memory))
