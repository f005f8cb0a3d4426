"""What callers of the engine ask for, and what they get.

Steps and results are tuples, because every batch has many and each has to be cheap.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

from torch import Tensor

from swarm_protocol.identifiers import BlockRange
from swarm_protocol.rows import Rows
from swarm_server.errors import InvalidStepError


@dataclass(frozen=True, slots=True)
class SessionRequest:
    """A session to be opened. Whoever asks has had it admitted.

    `num_rows` is how many sequences it begins with, and the most it may ever have; `max_length`
    bounds the tokens of each. Tenants share the server's time fairly. `wait_s` is how long a step
    may wait for pages; the engine grants its own minimum in any case.
    """

    blocks: BlockRange
    num_rows: int
    max_length: int
    tenant: str
    adapter: str | None = None
    wait_s: float = 0.0


class StepTensors(Protocol):
    """What one step does to a session.

    `rows` are the hidden states of its tokens. `prompts` [num_blocks, num_rows or 1,
    num_prompt_tokens, hidden_size] are added to the first tokens of the chunk before each block;
    `hypo_ids` int64 [num_rows] says which row each row continues. With `only_last` nobody wants
    outputs but those of each row's last token. Tensors may be on any device and of any float
    dtype, and stay as they are.
    """

    @property
    def rows(self) -> Rows:
        """Of the tokens."""

    @property
    def prompts(self) -> Tensor | None:
        """Of the first tokens, or None."""

    @property
    def hypo_ids(self) -> Tensor | None:
        """Of the rows, or None: each continues itself."""

    @property
    def only_last(self) -> bool:
        """Whether the result is of each row's last token, of which there is one."""


class Step(NamedTuple):
    """`StepTensors` whose rows are a tensor `hidden`, [num_rows, num_tokens, hidden_size]."""

    hidden: Tensor
    prompts: Tensor | None = None
    hypo_ids: Tensor | None = None
    only_last: bool = False

    @property
    def rows(self) -> Rows:
        """Of the tokens.

        Raises:
            InvalidStepError: `hidden` has another number of dimensions.
        """
        if self.hidden.dim() != 3:
            expected = "[num_rows, num_tokens, hidden_size]"
            raise InvalidStepError.shape("hidden states", expected, self.hidden.shape)
        return Rows.of(self.hidden)


class StepResult(NamedTuple):
    """What a step has given.

    `rows` are the wanted outputs, in the span's dtype, on the CPU. `compute_ms` is the time of the
    batches that the step was part of, `queue_ms` the rest of its time in the engine;
    `num_batch_rows` counts the rows of the last batch, its own included.
    """

    rows: Rows
    queue_ms: float
    compute_ms: float
    num_batch_rows: int

    @property
    def hidden(self) -> Tensor:
        """The outputs as a view, [num_rows, num_tokens or 1, hidden_size]."""
        return self.rows.hidden


StepListener: TypeAlias = Callable[[StepResult | BaseException], None]
"""Hears how a step has ended, once: with its result, or with the error that kept it from having
one, which is CancelledError when its session was closed."""
