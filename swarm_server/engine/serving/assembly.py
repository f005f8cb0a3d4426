"""From the slices of a plan to one ragged batch, and from its outputs back to them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from swarm_server.engine.batch import AdapterRange, PromptedSegment, RaggedBatch
from swarm_server.engine.segments import Segment
from swarm_server.engine.serving.inputs import InputChunk


@dataclass(frozen=True, slots=True)
class Piece:
    """What one session computes in a batch: consecutive chunks of all its rows.

    `tables` holds, for each row, the page table of each layout group, with room for these tokens.
    """

    chunks: Sequence[InputChunk]
    tables: Sequence[Sequence[Sequence[int]]]
    adapter: str | None

    @property
    def num_tokens(self) -> int:
        """Tokens of each row."""
        return self.chunks[-1].end - self.chunks[0].position


@dataclass(frozen=True, slots=True)
class Assembled:
    """A batch, and where in it the last chunk of each piece is: tokens [start, end)."""

    batch: RaggedBatch
    places: Sequence[range]


def assemble(pieces: Sequence[Piece], dtype: torch.dtype) -> Assembled:
    """Return the batch of pieces, those of one adapter side by side; on the CPU, in `dtype`."""
    building = _Building()
    for piece in pieces:
        building.add(piece, dtype)
    batch = RaggedBatch(
        hidden=torch.cat(building.parts),
        segments=tuple(building.segments),
        adapters=tuple(building.adapters),
        prompts=tuple(building.prompts),
    )
    return Assembled(batch, building.places)


def split_outputs(
    outputs: Tensor, pieces: Sequence[Piece], places: Sequence[range]
) -> list[Tensor | None]:
    """Return the outputs of each piece's last chunk, [num_rows, num_tokens, hidden_size].

    None stands for outputs that are not finite; they spoil nobody else's.
    """
    is_finite = math.isfinite(outputs.sum(dtype=torch.float32).item())
    split: list[Tensor | None] = []
    for piece, place in zip(pieces, places, strict=True):
        own = outputs[place.start : place.stop]
        is_good = is_finite or bool(own.isfinite().all())
        split.append(own.view(len(piece.tables), -1, own.shape[1]) if is_good else None)
    return split


class _Building:
    def __init__(self) -> None:
        self.parts: list[Tensor] = []
        self.segments: list[Segment] = []
        self.adapters: list[AdapterRange] = []
        self.prompts: list[PromptedSegment] = []
        self.places: list[range] = []
        self._end = 0

    def add(self, piece: Piece, dtype: torch.dtype) -> None:
        first = self._end
        places = [self._add_chunk(chunk, piece.tables, dtype) for chunk in piece.chunks]
        self.places.append(places[-1])
        if piece.adapter is not None:
            self._add_adapter(first, piece.adapter)

    def _add_chunk(
        self, chunk: InputChunk, tables: Sequence[Sequence[Sequence[int]]], dtype: torch.dtype
    ) -> range:
        hidden, first = chunk.hidden_rows(), self._end
        num_tokens = hidden.shape[1]
        self.parts.append(hidden.reshape(-1, hidden.shape[2]).to(dtype))
        for row, row_tables in enumerate(tables):
            prompts = chunk.prompts_of(row)
            if prompts is not None:
                self.prompts.append(PromptedSegment(len(self.segments), prompts))
            end = self._end + num_tokens
            self.segments.append(Segment(self._end, end, chunk.position, row_tables))
            self._end = end
        return range(first, self._end)

    def _add_adapter(self, start: int, name: str) -> None:
        last = self.adapters[-1] if self.adapters else None
        if last is not None and last.name == name:
            assert last.end == start
            self.adapters[-1] = AdapterRange(last.start, self._end, name)
        else:
            self.adapters.append(AdapterRange(start, self._end, name))
