"""From what sessions compute in a batch to one ragged batch, and from its outputs back to them."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from swarm_protocol.dialect import join_rows
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


def assemble(pieces: Sequence[Piece], dtype: torch.dtype) -> RaggedBatch:
    """Return the batch of pieces, those of one adapter side by side; on the CPU, in `dtype`."""
    parts, segments, end = list[Tensor](), list[Segment](), 0
    adapters, prompts = list[AdapterRange](), list[PromptedSegment]()
    for chunks, tables, adapter in pieces:
        start = end
        for chunk in chunks:
            if chunk.prompts is not None:
                prompts += _prompted(chunk, len(segments), len(tables))
            parts.append(chunk.hidden if chunk.rows is None else chunk.hidden_rows())
            position, num_tokens = chunk.position, chunk.end - chunk.position
            for row_tables in tables:
                segments.append(Segment(end, end + num_tokens, position, row_tables))
                end += num_tokens
        if adapter is not None:
            _add_adapter(adapters, AdapterRange(start, end, adapter))
    return RaggedBatch(join_rows(parts).to(dtype), segments, adapters, prompts)


def split_outputs(outputs: Tensor, pieces: Sequence[Piece]) -> Sequence[Tensor | None]:
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
            for piece, place in zip(pieces, _places(pieces), strict=True)
        ]
    is_half = outputs.dtype == torch.float16  # in which a sum of many numbers overflows
    if math.isfinite(outputs.sum(dtype=torch.float32 if is_half else None).item()):
        return split
    return [own if own.isfinite().all() else None for own in split]


def _places(pieces: Sequence[Piece]) -> Iterator[range]:
    """Yield where in their batch the last chunk of each piece is."""
    end = 0
    for piece in pieces:
        start = end
        for chunk in piece.chunks:
            start, end = end, end + len(piece.tables) * (chunk.end - chunk.position)
        yield range(start, end)


def _prompted(chunk: InputChunk, segment_index: int, num_rows: int) -> Iterator[PromptedSegment]:
    """Yield the prompts of a chunk's rows, which are the segments from `segment_index` on."""
    for row in range(num_rows):
        prompts = chunk.prompts_of(row)
        assert prompts is not None
        yield PromptedSegment(segment_index + row, prompts)


def _add_adapter(adapters: list[AdapterRange], added: AdapterRange) -> None:
    """Add a range, or make the last one longer."""
    if adapters and adapters[-1].name == added.name:
        last = adapters.pop()
        assert last.end == added.start
        added = AdapterRange(last.start, added.end, added.name)
    adapters.append(added)
