"""Sequences whose pages are scattered over a storage, and batches of their next tokens."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from swarm_protocol.identifiers import BlockRange
from swarm_server.engine.batch import AdapterRange, PromptedSegment, RaggedBatch
from swarm_server.engine.eager_runner import EagerRunner
from swarm_server.engine.page_storage import PageStorage
from swarm_server.engine.segments import Segment
from swarm_server.engine.span import Span
from swarm_server.kv import KVLayout, KVMemory, SequenceKV


@dataclass
class Part:
    """The next tokens of a sequence: hidden states [num_tokens, hidden_size], and what goes along.

    `prompts` is [num_blocks, num_prompt_tokens, hidden_size].
    """

    sequence: SequenceKV
    hidden: Tensor
    adapter: str | None = None
    prompts: Tensor | None = None


@dataclass
class PagedSpan:
    """A span with memory for its sequences, whose pages are given out in a random order."""

    span: Span
    blocks: BlockRange | None = None
    page_size: int = 4
    num_pages: int = 400
    has_kernel: bool = True
    memory: KVMemory = field(init=False)
    storage: PageStorage = field(init=False)

    def __post_init__(self) -> None:
        layout = KVLayout(self.span.windows, self.page_size)
        self.memory = KVMemory(self.num_pages, layout)
        self.storage = PageStorage(
            layout,
            self.num_pages,
            num_kv_heads=self.span.shape.num_kv_heads,
            head_dim=self.span.shape.head_dim,
            dtype=self.span.dtype,
        )
        self._shuffle_pages()
        self.runner = EagerRunner(self.span, self.storage, has_kernel=self.has_kernel)

    def new_sequence(self) -> SequenceKV:
        return SequenceKV(self.memory)

    def run(self, *parts: Part) -> list[Tensor]:
        """Run a batch of these parts, those of one adapter side by side, and return its outputs."""
        batch = self._batch(parts)
        outputs = self.runner.run(self.blocks or self.span.blocks, batch)
        for part in parts:
            part.sequence.free_behind_window()
        return [outputs[segment.start : segment.end] for segment in batch.segments]

    def run_wanted(self, wanted: Sequence[int], *parts: Part) -> Tensor:
        """Run a batch of which only outputs of these tokens are wanted; return what comes."""
        batch = replace(self._batch(parts), wanted=torch.tensor(wanted))
        return self.runner.run(self.blocks or self.span.blocks, batch)

    def _batch(self, parts: Sequence[Part]) -> RaggedBatch:
        segments, adapters, prompts = [], [], []
        start = 0
        for index, part in enumerate(parts):
            position, num_tokens = part.sequence.length, len(part.hidden)
            self.storage.copy_pages(part.sequence.append(num_tokens))
            tables = [table.pages for table in part.sequence.tables]
            segments.append(Segment(start, start + num_tokens, position, tables))
            if part.adapter is not None:
                adapters.append(AdapterRange(start, start + num_tokens, part.adapter))
            if part.prompts is not None:
                prompts.append(PromptedSegment(index, part.prompts))
            start += num_tokens
        hidden = torch.cat([part.hidden for part in parts])
        return RaggedBatch(hidden, segments, adapters, prompts)

    def _shuffle_pages(self) -> None:
        """Give all pages out and take them back in a random order."""
        order = torch.randperm(self.num_pages, generator=torch.Generator().manual_seed(3))
        pages = self.memory.allocate(self.num_pages)
        for index in order.tolist():
            self.memory.release([pages[index]])


def run_in_chunks(
    span: Span,
    hidden: Tensor,
    sizes: list[int],
    *,
    blocks: BlockRange | None = None,
    has_kernel: bool = True,
) -> Tensor:
    """Feed sequences [batch, num_tokens, hidden_size] in chunks; return the outputs so shaped."""
    paged = PagedSpan(span, blocks=blocks, has_kernel=has_kernel)
    sequences = [paged.new_sequence() for _ in hidden]
    outputs = []
    for chunk in torch.split(hidden, sizes, dim=1):
        rows = zip(sequences, chunk, strict=True)
        outputs.append(torch.stack(paged.run(*[Part(*row) for row in rows])))
    return torch.cat(outputs, 1)
