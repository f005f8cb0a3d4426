"""One batch, from the moment that its sessions have pages until it is computed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor

from swarm_protocol.identifiers import BlockRange
from swarm_protocol.rows import Rows
from swarm_server.engine.batch import Begun, RaggedBatch, SpanRunner
from swarm_server.engine.serving.assembly import Piece, assemble, split_outputs
from swarm_server.engine.serving.session import EngineSession
from swarm_server.kv import PageCopy

Outputs: TypeAlias = Sequence[Rows | None]
"""Of each session of a batch, see `split_outputs`."""


class PageContents(Protocol):
    """The memory behind the pages."""

    def copy_pages(self, copies: Sequence[PageCopy]) -> None:
        """Copy whole pages, one copy after the other."""


@dataclass(frozen=True, slots=True)
class PagedSpan:
    """A span and its pages, ready to compute; outputs come in `dtype`."""

    runner: SpanRunner
    contents: PageContents
    hidden_size: int
    dtype: torch.dtype


class RunningBatch(NamedTuple):
    """What its sessions have been granted of their steps; those of one adapter are side by side.

    Tokens are counted over all rows. `copies` come before anything is computed. A tuple, because
    a lone session has one for each token.
    """

    blocks: BlockRange
    sessions: Sequence[EngineSession]
    copies: Sequence[PageCopy]
    num_rows: int
    num_tokens: int
    num_prefill_tokens: int

    def prepare(self, span: PagedSpan) -> Callable[[], Begun[Outputs]]:
        """Make ready to compute while another batch may run; what is returned starts it."""
        pieces = [session.piece() for session in self.sessions]
        batch = assemble(pieces, span.dtype)
        if self.copies:
            return partial(Begun, partial(self._copy_and_run, span, batch, pieces))
        return partial(_start, span.runner.prepare(self.blocks, batch), batch, pieces)

    def _copy_and_run(
        self, span: PagedSpan, batch: RaggedBatch, pieces: Sequence[Piece]
    ) -> Outputs:
        with torch.inference_mode():
            span.contents.copy_pages(self.copies)
            outputs = span.runner.run(self.blocks, batch)
            return split_outputs(outputs, pieces, are_left_out=batch.is_left_out(outputs))


def _start(
    start: Callable[[], Begun[Tensor]], batch: RaggedBatch, pieces: Sequence[Piece]
) -> Begun[Outputs]:
    begun = start()

    def finish() -> Outputs:
        outputs = begun.finish()
        return split_outputs(outputs, pieces, are_left_out=batch.is_left_out(outputs))

    return Begun(finish, begun.is_done)
