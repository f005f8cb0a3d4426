"""What an inference session needs of one hop, whatever dialect its server speaks.

Knows neither the other hops nor what to do about a failure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor

from swarm_client.routing import Hop
from swarm_protocol.identifiers import BlockRange


class StepInputs:
    """Inputs of one step, for some blocks of the session. Never changed.

    Attributes:
        hidden: `[num_rows, num_tokens, hidden_size]`, on the CPU, of any floating dtype.
        prompts: deep prompts of those blocks, `[num_blocks, num_rows or 1, num_prompts,
            hidden_size]`, added to the first tokens before each block.
        hypo_ids: int64 `[num_rows]`: the earlier row that each row continues; None is its own.
        only_last_at: end of the blocks behind which nobody wants outputs but those of each row's
            last token; None for all outputs of any blocks.
        num_rows, num_tokens: of `hidden`; asked for often, and a tensor takes its time to tell.
        size: tokens over all rows.
    """

    __slots__ = (
        "hidden",
        "hypo_ids",
        "num_rows",
        "num_tokens",
        "only_last_at",
        "prompts",
        "size",
    )

    def __init__(
        self,
        hidden: Tensor,
        prompts: Tensor | None = None,
        hypo_ids: Tensor | None = None,
        only_last_at: int | None = None,
    ) -> None:
        self.hidden = hidden
        self.prompts = prompts
        self.hypo_ids = hypo_ids
        self.only_last_at = only_last_at
        self.num_rows, self.num_tokens, _ = hidden.shape
        self.size = self.num_rows * self.num_tokens

    @classmethod
    def copied(
        cls,
        hidden: Tensor,
        prompts: Tensor | None,
        hypo_ids: Tensor | None,
        only_last_at: int | None = None,
    ) -> "StepInputs":
        """Return inputs from any device, which the caller's later changes do not reach."""
        return cls(
            _copied(hidden),
            None if prompts is None else _copied(prompts),
            None if hypo_ids is None else hypo_ids.cpu(),
            only_last_at,
        )

    def only_last(self, blocks: BlockRange) -> "StepInputs":
        """Return the same for a step through some blocks whose outputs are not all wanted."""
        return StepInputs(self.hidden, self.prompts, self.hypo_ids, blocks.end)


def _copied(tensor: Tensor) -> Tensor:
    if tensor.is_cpu and not tensor.requires_grad:  # as nearly always; a third faster
        return tensor.clone()
    return tensor.detach().to("cpu", copy=True)


class HopOutput(NamedTuple):
    """What a hop made of a step. A tuple, because each step makes some.

    Attributes:
        hidden: in the shape of the inputs, on the CPU; where only the last token is wanted, it
            may have one token.
        queue_ms: time that the step waited at the server; None if it does not tell.
        compute_ms: time that its blocks took; None if it does not tell.
    """

    hidden: Tensor
    queue_ms: float | None = None
    compute_ms: float | None = None


@dataclass(frozen=True, slots=True)
class SessionTerms:
    """What all hops of a session have in common.

    Attributes:
        tenant: on whose behalf; servers that know tenants are fair between them.
        max_length: tokens of each row that the KV cache must have room for.
        max_step_tokens: tokens over all rows that servers take in one step.
        step_timeout_s: from sending a step to its reply.
        close_timeout_s: for closing in good order.
        kv_wait_s: how long a server of our dialect may let the session wait for KV memory.
    """

    dht_prefix: str
    active_adapter: str | None
    max_length: int
    max_step_tokens: int
    step_timeout_s: float
    close_timeout_s: float
    kv_wait_s: float
    tenant: str = ""


class HopSession(Protocol):
    """One hop's end of an inference session. One step at a time; after a failure only `abandon`."""

    @property
    def hop(self) -> Hop:
        """The server, and its blocks that every step runs through."""

    @property
    def can_roll_back(self) -> bool:
        """Whether the server has proved that it can shorten its KV cache."""

    @property
    def max_step_tokens(self) -> int:
        """Tokens over all rows that one step may have."""

    @property
    def may_queue(self) -> bool:
        """Whether the server may still let the session wait for KV memory."""

    async def match_prefix(self, token_ids: Sequence[int]) -> int:
        """Let the server begin with what it has cached; return how many tokens that are.

        0 for a session that has begun, and for a server that shares no prefixes.

        Args:
            token_ids: that the session is going to run, from position 0 on, in its only row.

        Raises:
            PeerError, DeadlineExceededError: as `step`.
        """

    async def step(self, inputs: StepInputs, *, position: int) -> HopOutput:
        """Run tokens through the hop's blocks and append them to its KV cache.

        Args:
            inputs: prompts are those of the hop's blocks.
            position: of the first token; below the end of the last step, where `can_roll_back`,
                the tokens from there on are forgotten first.

        Raises:
            PeerError: the connection broke, the server refused, or its reply fails a check.
            DeadlineExceededError: no reply in time.
            SessionClosedError: it was closed or abandoned before, or while the step was under way.
        """

    async def close(self) -> None:
        """End the session in good order. Idempotent, bounded in time, never raises."""

    def abandon(self) -> None:
        """Drop it at once; the server frees its KV memory when it notices. Idempotent."""
