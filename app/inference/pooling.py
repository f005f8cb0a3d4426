"""Embeddings of texts: the mean of the last hidden states of their tokens."""

from collections.abc import Sequence
from typing import Final

from torch import Tensor, zeros

from app.inference.errors import BadHiddenStatesError, EmptyPromptError, PromptTooLongError
from app.inference.replica_pool import ReplicaPool
from swarm_client.connection import RemoteModel
from swarm_client.session.events import EventListener

_CHUNK_TOKENS: Final = 512
"""Of one step: bounds what is in memory at once, and lets generations in between."""


async def mean_hidden_state(
    remote: RemoteModel,
    replicas: ReplicaPool,
    token_ids: Sequence[int],
    *,
    tenant: str = "",
    on_event: EventListener | None = None,
) -> list[float]:
    """Return the mean over all tokens of what the final norm makes of the last block's output.

    That is what transformers calls `last_hidden_state`, mean-pooled, `hidden_size` numbers. Of a
    model that was made to generate it is a crude embedding, and no more is promised.

    Raises:
        EmptyPromptError: there are no tokens.
        PromptTooLongError: there are more than the model can hold.
        BadHiddenStatesError: the servers' output is not finite.
        SwarmError: the swarm failed; see `RemoteModel.open_session`.
    """
    if not token_ids:
        raise EmptyPromptError
    if len(token_ids) > remote.facts.max_positions:
        raise PromptTooLongError(len(token_ids), remote.facts.max_positions)
    total: Tensor = zeros(remote.facts.hidden_size)
    session = await remote.open_session(max_length=len(token_ids), tenant=tenant, on_event=on_event)
    try:
        for start in range(0, len(token_ids), _CHUNK_TOKENS):
            chunk = await replicas.embed(token_ids[start : start + _CHUNK_TOKENS])
            total += await replicas.sum_normed((await session.step(chunk))[0])
    finally:
        await session.close()
    mean = total / len(token_ids)
    if not mean.isfinite().all():
        raise BadHiddenStatesError
    numbers: list[float] = mean.tolist()
    return numbers
