"""From what sessions compute in a batch to one ragged batch, and from its outputs back to them."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from swarm_protocol.rows import Rows, join_rows
from swarm_server.engine.batch import AdapterRange, PromptedSegment, RaggedBatch
from swarm_server.engine.segments import Segment
from swarm_server.engine.serving.inputs import InputChunk


class Piece(NamedTuple):
    """What one session computes in a batch: consecutive chunks of all its rows.

    `tables` holds, for each row, the page table of each layout group, with room for these tokens.
    With `only_last`, outputs are wanted of the last token of each row only.
    """

    chunks: Sequence[InputChunk]
    tables: Sequence[Sequence[Sequence[int]]]
    adapter: str | None
    only_last: bool = False


def assemble(pieces: Sequence[Piece], dtype: torch.dtype) -> RaggedBatch:
    """Return the batch of pieces, those of one adapter side by side; on the CPU, in `dtype`."""
    parts, segments, end = list[Rows](), list[Segment](), 0
    adapters, prompts = list[AdapterRange](), list[PromptedSegment]()
    has_unwanted = False
    for chunks, tables, adapter, only_last in pieces:
        start = end
        for chunk in chunks:
            if chunk.prompts is not None:
                prompts += _prompted(chunk, len(segments), len(tables))
            parts.append(chunk.inputs if chunk.order is None else chunk.ordered())
            position, num_tokens = chunk.position, chunk.end - chunk.position
            for row_tables in tables:
                segments.append(Segment(end, end + num_tokens, position, row_tables))
                end += num_tokens
        has_unwanted |= only_last
        if adapter is not None:
            _add_adapter(adapters, AdapterRange(start, end, adapter))
    hidden = join_rows(parts)
    if hidden.dtype != dtype:
        hidden = hidden.to(dtype)
    wanted = _wanted(pieces, segments) if has_unwanted else None
    return RaggedBatch(hidden, segments, adapters, prompts, wanted)


def split_outputs(
    outputs: Tensor, pieces: Sequence[Piece], *, are_left_out: bool = False
) -> Sequence[Rows | None]:
    """Return the outputs of each piece's last chunk, or of its last token.

    None stands for outputs that are not finite; they spoil nobody else's.

    Args:
        outputs: of all tokens of the pieces, or of those that are wanted.
        pieces: see there.
        are_left_out: outputs that are not wanted.
    """
    split, start = list[Rows](), 0
    for chunks, tables, _, only_last in pieces:
        num_rows = len(tables)
        if only_last and are_left_out:
            split.append(Rows(outputs, start, num_rows, 1))
            start += num_rows
            continue
        for chunk in chunks[:-1]:
            start += num_rows * chunk.inputs.num_tokens
        num_tokens = chunks[-1].inputs.num_tokens
        split.append(Rows(outputs, start, num_rows, num_tokens))
        start += num_rows * num_tokens
    is_half = outputs.dtype == torch.float16  # in which a sum of many numbers overflows
    if math.isfinite(outputs.sum(dtype=torch.float32 if is_half else None).item()):
        return split
    return [own if own.hidden.isfinite().all() else None for own in split]


def _wanted(pieces: Sequence[Piece], segments: Sequence[Segment]) -> Tensor:
    """Return which tokens outputs are wanted of, see `RaggedBatch`."""
    wanted, first = list[int](), 0
    for chunks, tables, _, only_last in pieces:
        own = segments[first : first + len(chunks) * len(tables)]
        first += len(own)
        if only_last:
            wanted += [segment.end - 1 for segment in own[-len(tables) :]]
        else:
            wanted += range(own[0].start, own[-1].end)
    return torch.tensor(wanted)


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
