"""What goes through a span at once: tokens of many sequences, one after the other."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from torch import Tensor

from swarm_protocol.identifiers import BlockRange
from swarm_server.engine.segments import Segment

Outcome = TypeVar("Outcome", covariant=True)


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
    the ranges are in order and do not overlap. Outputs are wanted of all tokens, or of those that
    `wanted` names, int64 [num_wanted], rising, on the CPU; each sequence's last is one of them.
    Tensors may be on any device and of any float dtype, and stay as they are.
    """

    hidden: Tensor
    segments: Sequence[Segment]
    adapters: Sequence[AdapterRange] = ()
    prompts: Sequence[PromptedSegment] = ()
    wanted: Tensor | None = None

    def is_left_out(self, outputs: Tensor) -> bool:
        """Whether a runner has left out what is not wanted."""
        return self.wanted is not None and len(outputs) == len(self.wanted)


@dataclass(frozen=True, slots=True)
class Begun(Generic[Outcome]):
    """A batch that has been started.

    Attributes:
        finish: does the rest and returns what came of it; for the compute thread, or, once
            `is_done` has said so, for any.
        is_done: tells at once whether a device that works by itself has ended, so that `finish`
            need not wait; None where the rest is work of our own. Raises what the device has met.
    """

    finish: Callable[[], Outcome]
    is_done: Callable[[], bool] | None = None


class SpanRunner(Protocol):
    """Puts batches through a span's blocks, one at a time. It is not called in inference mode."""

    def prepare(self, blocks: BlockRange, batch: RaggedBatch) -> Callable[[], Begun[Tensor]]:
        """Do what can be done while another batch runs; what is returned starts this one.

        For the event loop, and so is the start, once the other has ended. It goes as far as takes
        no time, and the rest does what `run` does; a device that works by itself has its orders
        then.
        """

    def run(self, blocks: BlockRange, batch: RaggedBatch) -> Tensor:
        """Return the hidden states after `blocks`, [num_tokens, hidden_size], on the CPU.

        Or [num_wanted, hidden_size], if leaving the others out changes no bit of these, and keys or
        values that are not finite show in the last of their sequence.

        For the compute thread. In the span's dtype; the batch has at least one token. Its keys
        and values are in its pages then; nothing else has changed.
        """
