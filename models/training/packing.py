"""Documents into training rows of equal length."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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

    A document longer than a row is left out and counted.
    """
    rows: list[list[int]] = []
    row: list[int] = []
    num_left_out = 0
    for token_ids in documents:
        if len(token_ids) > row_length:
            num_left_out += 1
            continue
        if len(row) + len(token_ids) > row_length:
            rows.append(row)
            row = []
        row.extend(token_ids)
    if row:
        rows.append(row)
    padded = torch.full((len(rows), row_length), PADDING_ID, dtype=torch.int32)
    for index, filled in enumerate(rows):
        padded[index, : len(filled)] = torch.tensor(filled, dtype=torch.int32)
    return PackedRows(padded, num_left_out)
