"""Documents into training rows of equal length."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat

import torch
from torch import Tensor

from models.training.documents import PADDING_ID


@dataclass(frozen=True, slots=True)
class PackedRows:
    """Training rows, and how many documents were too long for one."""

    token_ids: Tensor  # int32 [num_rows, row_length], on the CPU, padded with PADDING_ID
    num_left_out: int

    @property
    def num_tokens(self) -> int:
        """Tokens without the padding."""
        return int((self.token_ids != PADDING_ID).sum())


def pack_rows(documents: Iterable[Sequence[int]], *, row_length: int) -> PackedRows:
    """Whole documents only, in order, as many to a row as fit; so each row begins with a document.

    A document longer than a row is left out and counted. At least one must fit.
    """
    rows: list[Tensor] = []
    row: list[int] = []
    num_left_out = 0
    for token_ids in documents:
        if len(token_ids) > row_length:
            num_left_out += 1
            continue
        if len(row) + len(token_ids) > row_length:
            rows.append(_padded(row, row_length))
            row = []
        row.extend(token_ids)
    if row:
        rows.append(_padded(row, row_length))
    return PackedRows(torch.stack(rows), num_left_out)


def _padded(row: Sequence[int], row_length: int) -> Tensor:
    return torch.tensor([*row, *repeat(PADDING_ID, row_length - len(row))], dtype=torch.int32)
