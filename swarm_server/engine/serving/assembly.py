"""From the slices of a plan to one ragged batch, and from its outputs back to them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from swarm_server.engine.batch import AdapterRange, PromptedSegment, RaggedBatch
from swarm_server.engine.segments import Segment
from swarm_server.engine.serving.inputs import InputChunk


class Piece(NamedTuple):
    """What one session computes in a batch: consecutive chunks of all its rows.

    `tables` holds, for each row, the page table of each layout group, with room for these tokens.
    """

    chunks: Sequence[InputChunk]
    tables: Sequence[Sequence[Sequence[int]]]
    adapter: str | None


@dataclass(frozen=True, slots=True)
class Assembled:
    """A batch, and where in it the last chunk of each piece is: tokens [start, end)."""

    batch: RaggedBatch
    places: Sequence[range]


def assemble(pieces: Sequence[Piece], dtype: torch.dtype) -> Assembled:
    """Return the batch of pieces, those of one adapter side by side; on the CPU, in `dtype`."""
    building = _Building()
    for piece in pieces:
        building.add(piece)
    batch = RaggedBatch(
        hidden=join_rows(building.parts).to(dtype),
        segments=building.segments,
        adapters=building.adapters,
        prompts=building.prompts,
    )
    return Assembled(batch, building.places)


def split_outputs(
    outputs: Tensor, pieces: Sequence[Piece], places: Sequence[range]
) -> Sequence[Tensor | None]:
    """Return the outputs of each piece's last chunk, [num_rows, num_tokens, hidden_size].

    None stands for outputs that are not finite; they spoil nobody else's.
    """
    num_tokens, hidden_size = outputs.shape
    split: Sequence[Tensor]
    if num_tokens == len(pieces):  # one row decodes in each: in one operation
        split = outputs.view(num_tokens, 1, 1, hidden_size).unbind()
    else:
        split = [
            outputs[place.start : place.stop].view(len(piece.tables), -1, hidden_size)
            for piece, place in zip(pieces, places, strict=True)
        ]
    is_half = outputs.dtype == torch.float16  # in which a sum of many numbers overflows
    if math.isfinite(outputs.sum(dtype=torch.float32 if is_half else None).item()):
        return split
    return [own if own.isfinite().all() else None for own in split]


def join_rows(parts: Sequence[Tensor]) -> Tensor:
    """Return [any number, num_tokens, hidden_size] of each part as [num_tokens, hidden_size]."""
    hidden_size = parts[0].shape[2]
    if len({part.shape[1] for part in parts}) > 1:
        parts = [part.reshape(1, -1, hidden_size) for part in parts]
        return torch.cat(parts, 1)[0]
    joined = parts[0] if len(parts) == 1 else torch.cat(tuple(parts))
    return joined.reshape(-1, hidden_size)


class _Building:
    def __init__(self) -> None:
        self.parts: list[Tensor] = []
        self.segments: list[Segment] = []
        self.adapters: list[AdapterRange] = []
        self.prompts: list[PromptedSegment] = []
        self.places: list[range] = []
        self._end = 0

    def add(self, piece: Piece) -> None:
        first = last = self._end
        for chunk in piece.chunks:
            last = self._end
            self._add_chunk(chunk, piece.tables)
        self.places.append(range(last, self._end))
        if piece.adapter is not None:
            self._add_adapter(first, piece.adapter)

    def _add_chunk(self, chunk: InputChunk, tables: Sequence[Sequence[Sequence[int]]]) -> None:
        self.parts.append(chunk.hidden if chunk.rows is None else chunk.hidden_rows())
        if chunk.prompts is not None:
            self._add_prompts(chunk, len(tables))
        start, num_tokens = self._end, chunk.end - chunk.position
        for row_tables in tables:
            end = start + num_tokens
            self.segments.append(Segment(start, end, chunk.position, row_tables))
            start = end
        self._end = start

    def _add_prompts(self, chunk: InputChunk, num_rows: int) -> None:
        """Add the prompts of rows whose segments come next."""
        for row in range(num_rows):
            prompts = chunk.prompts_of(row)
            assert prompts is not None
            self.prompts.append(PromptedSegment(len(self.segments) + row, prompts))

    def _add_adapter(self, start: int, name: str) -> None:
        last = self.adapters[-1] if self.adapters else None
        if last is not None and last.name == name:
            assert last.end == start
            self.adapters[-1] = AdapterRange(last.start, self._end, name)
        else:
            self.adapters.append(AdapterRange(start, self._end, name))
