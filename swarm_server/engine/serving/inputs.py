"""Hidden states that sessions have sent, kept so that they can be computed again."""

from collections.abc import Iterator, Sequence
from typing import Final

from torch import Tensor

from swarm_protocol.rows import Rows, copy_tokens

_MAX_SMALL: Final = 32
"""So many small chunks in a row are joined to one."""

_SMALL_TOKENS: Final = 16

_MAX_HELD_BYTES: Final = 4 * 1024 * 1024
"""Small chunks are parts of frames, and keep those in memory: of one session about so much."""


class InputChunk:
    """Hidden states of consecutive tokens that begin at `position`. Never overwritten.

    Row i of the session is row `order[i]` of `inputs`, or row i without `order`. `prompts`
    [num_blocks, as inputs or 1, num_prompt_tokens, hidden_size] belong to the first tokens. `end`
    is the position after the last one.
    """

    __slots__ = ("end", "inputs", "order", "position", "prompts")

    def __init__(
        self,
        position: int,
        inputs: Rows,
        prompts: Tensor | None = None,
        order: tuple[int, ...] | None = None,
    ) -> None:
        self.position = position
        self.end = position + inputs.num_tokens
        self.inputs = inputs
        self.prompts = prompts
        self.order = order

    def cut(self, start: int, end: int) -> "InputChunk":
        """Return what falls into positions [start, end), which it overlaps."""
        if start <= self.position and self.end <= end:
            return self
        first, last = max(start - self.position, 0), min(end, self.end) - self.position
        prompts = None if self.prompts is None else self.prompts[:, :, first:last]
        if prompts is not None and prompts.shape[2] == 0:
            prompts = None
        return InputChunk(self.position + first, self.inputs.cut(first, last), prompts, self.order)

    def reorder(self, rows: Sequence[int]) -> "InputChunk":
        """Return the chunk with other rows; its tensors stay as they are."""
        old = range(self.inputs.num_rows) if self.order is None else self.order
        new = tuple(old[row] for row in rows)
        return InputChunk(self.position, self.inputs, self.prompts, new)

    def ordered(self) -> Rows:
        """Return the inputs in the order of the session's rows."""
        if self.order is None:
            return self.inputs
        return Rows.of(self.inputs.hidden[list(self.order)])

    def prompts_of(self, row: int) -> Tensor | None:
        """Return the prompts of a row of the session, [num_blocks, P, hidden_size]."""
        if self.prompts is None:
            return None
        if self.prompts.shape[1] == 1:
            return self.prompts[:, 0]
        return self.prompts[:, row if self.order is None else self.order[row]]

    def compact(self) -> "InputChunk":
        """Return the chunk in memory of its own, if it is part of something larger."""
        inputs, hidden, prompts = self.inputs, self.inputs.hidden, self.prompts
        if hidden.untyped_storage().nbytes() > hidden.nbytes:
            inputs = Rows.of(hidden.clone())
        if prompts is not None and prompts.untyped_storage().nbytes() > prompts.nbytes:
            prompts = prompts.clone()
        return InputChunk(self.position, inputs, prompts, self.order)


def cut_chunks(chunks: Sequence[InputChunk], start: int, end: int) -> Iterator[InputChunk]:
    """Yield the parts of consecutive chunks that fall into positions [start, end)."""
    for chunk in chunks:
        if chunk.position < end and start < chunk.end:
            yield chunk.cut(start, end)


class KeptInputs:
    """All inputs of a session from position `start` to `end`, in order."""

    def __init__(self) -> None:
        self.start = self.end = 0
        self.chunks: list[InputChunk] = []
        self._num_small = 0  # chunks at the end that may be joined
        self._held_bytes = 0  # by those, in all

    def begin_at(self, position: int) -> None:
        """Begin an empty record later: what comes before is not known here."""
        assert not self.chunks
        self.start = self.end = position

    def append(self, chunk: InputChunk) -> bool:
        """Add a chunk that begins at `end`; tell whether to call `join_small` before long."""
        assert chunk.position == self.end
        self.end = chunk.end
        if chunk.prompts is not None or chunk.end - chunk.position > _SMALL_TOKENS:
            self.join_small()
            self.chunks.append(chunk.compact())
            return False
        self.chunks.append(chunk)
        self._num_small += 1
        self._held_bytes += chunk.inputs.memory.nbytes
        return self._num_small >= _MAX_SMALL or self._held_bytes > _MAX_HELD_BYTES

    def truncate(self, position: int) -> None:
        """Forget all from `position` on."""
        while self.chunks and self.chunks[-1].position >= position:
            self.chunks.pop()
            self._num_small = max(0, self._num_small - 1)
        self._held_bytes = self._held_bytes if self._num_small else 0
        if self.chunks and self.chunks[-1].end > position:
            self.chunks[-1] = self.chunks[-1].cut(0, position)
        self.start = min(self.start, position)
        self.end = position

    def reorder(self, rows: Sequence[int]) -> None:
        """Let row i continue what row `rows[i]` has been."""
        self.chunks = [chunk.reorder(rows) for chunk in self.chunks]

    def join_small(self) -> None:
        """Copy the small chunks at the end into one, and let go of what they are parts of.

        That takes 0.1 ms: the memory is new, and what is copied was last touched long ago.
        """
        if self._num_small == 0:
            return
        small = self.chunks[-self._num_small :]
        joined = copy_tokens([chunk.ordered() for chunk in small])
        self.chunks[-self._num_small :] = [InputChunk(small[0].position, joined)]
        self._num_small = self._held_bytes = 0
