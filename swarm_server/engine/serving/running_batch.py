"""One batch of slices, from the moment that they have pages until they are computed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor

from swarm_protocol.identifiers import BlockRange
from swarm_server.engine.batch import Begun, SpanRunner
from swarm_server.engine.serving.assembly import Piece, assemble, split_outputs
from swarm_server.engine.serving.session import EngineSession
from swarm_server.engine.serving.work import Work
from swarm_server.kv import PageCopy

Outputs: TypeAlias = Sequence[Tensor | None]
"""Of each member of a batch, see `split_outputs`."""


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


class Member(NamedTuple):
    """A slice of a batch: tokens [start, end) of a session, for a step of it."""

    session: EngineSession
    work: Work
    start: int
    end: int
    piece: Piece


@dataclass(frozen=True, slots=True)
class RunningBatch:
    """Slices that are computed together; members of one adapter stand side by side."""

    blocks: BlockRange
    members: Sequence[Member]
    copies: Sequence[PageCopy]

    @property
    def num_rows(self) -> int:
        """Rows of all members."""
        return sum([member.work.num_rows for member in self.members])

    def count_tokens(self, *, only_prefill: bool = False) -> int:
        """Return the tokens of all rows."""
        return sum(
            [
                member.work.num_rows * (member.end - member.start)
                for member in self.members
                if not only_prefill or member.work.is_prefill
            ]
        )

    @torch.inference_mode()
    def prepare(self, span: PagedSpan) -> Callable[[], Begun[Outputs]]:
        """Make ready to compute while another batch may run; what is returned starts it."""
        pieces = [member.piece for member in self.members]
        assembled = assemble(pieces, span.dtype)
        batch, places = assembled.batch, assembled.places

        @torch.inference_mode()
        def copy_and_run() -> Outputs:
            span.contents.copy_pages(self.copies)
            return split_outputs(span.runner.run(self.blocks, batch), pieces, places)

        if self.copies:
            return partial(Begun, copy_and_run)
        start_span = span.runner.prepare(self.blocks, batch)

        def start() -> Begun[Outputs]:
            begun = start_span()

            @torch.inference_mode()
            def finish() -> Outputs:
                return split_outputs(begun.finish(), pieces, places)

            return Begun(finish, begun.is_done)

        return start
