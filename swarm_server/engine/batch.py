"""What goes through a span at once: tokens of many sequences, one after the other."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from swarm_protocol.identifiers import BlockRange
from swarm_server.engine.segments import Segment


@dataclass(frozen=True, slots=True)
class AdapterRange:
    """Tokens [start, end) of a batch go through the adapter of this name."""

    start: int
    end: int
    name: str


@dataclass(frozen=True, slots=True)
class PromptedSegment:
    """Deep prompts [num_blocks, num_prompt_tokens, hidden_size] of a segment.

    They are added to its first tokens before each block that the batch goes through.
    """

    segment_index: int
    prompts: Tensor


@dataclass(frozen=True, slots=True)
class RaggedBatch:
    """Hidden states [num_tokens, hidden_size], and whose they are.

    Segments cover all tokens, in order. Tokens in no range of `adapters` go through the base;
    the ranges are in order and do not overlap. Tensors may be on any device and of any float
    dtype, and stay as they are.
    """

    hidden: Tensor
    segments: Sequence[Segment]
    adapters: Sequence[AdapterRange] = ()
    prompts: Sequence[PromptedSegment] = ()


class SpanRunner(Protocol):
    """Puts batches through a span's blocks, one at a time."""

    def begin(self, blocks: BlockRange, batch: RaggedBatch) -> Callable[[], Tensor]:
        """Start a batch as far as that takes no time; return what does the rest, as `run` does.

        For the event loop; the rest is for the compute thread. A device that works by itself has
        its orders when this returns, and the rest is to wait for it.
        """

    def run(self, blocks: BlockRange, batch: RaggedBatch) -> Tensor:
        """Return the hidden states after `blocks`, [num_tokens, hidden_size], on the CPU.

        For the compute thread. In the span's dtype; the batch has at least one token. Its keys
        and values are in its pages then; nothing else has changed.
        """
