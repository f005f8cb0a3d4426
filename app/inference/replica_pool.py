"""Replicas of one model's local parts, and which of them takes the next job."""

import asyncio
from collections.abc import Sequence
from time import perf_counter

from torch import Tensor

from app.inference.errors import OverloadedError
from app.inference.head_batch import HeadRow
from app.inference.replica import EmbedJob, HeadJob, Job, Replica, SampledToken, SumJob
from swarm_client.generation.sampler_row import SamplerRow
from swarm_client.models import LocalParts


class ReplicaPool:
    """Embeds prompts and chooses tokens, in threads. Belongs to the event loop it was made in.

    Args:
        copies: of the weights, one per device; each is read by `num_replicas` threads.
        num_threads: of torch in each replica; None leaves torch's default.
        max_waiting: jobs that may wait over all replicas; one more is refused.
    """

    def __init__(
        self,
        *copies: LocalParts,
        num_replicas: int = 1,
        num_threads: int | None = None,
        max_waiting: int = 1024,
    ) -> None:
        self._max_waiting = max_waiting
        self._replicas = [
            Replica(parts, name=f"replica-{index}", num_threads=num_threads)
            for index, parts in enumerate(copies * num_replicas)
        ]

    @property
    def num_waiting(self) -> int:
        """Jobs without an outcome, over all replicas."""
        return sum(replica.num_waiting for replica in self._replicas)

    @property
    def num_head_calls(self) -> int:
        """Head products so far; tokens over these is the mean batch."""
        return sum(replica.num_head_calls for replica in self._replicas)

    async def embed(self, token_ids: Sequence[int]) -> Tensor:
        """Return the embeddings of a prompt, `[1, num_tokens, hidden_size]`.

        Raises:
            OverloadedError, EngineStoppedError, HeadFailedError: see the classes.
        """
        result: asyncio.Future[Tensor] = asyncio.get_running_loop().create_future()
        self._submit(EmbedJob(token_ids, result))
        return await result

    async def sum_normed(self, hidden: Tensor) -> Tensor:
        """Return the sum of last hidden states: float32 `[hidden_size]`, behind the final norm.

        Args:
            hidden: outputs of the last block, `[num_tokens, hidden_size]`.

        Raises:
            OverloadedError, EngineStoppedError, HeadFailedError: see the classes.
        """
        result: asyncio.Future[Tensor] = asyncio.get_running_loop().create_future()
        self._submit(SumJob(hidden, result))
        return await result

    async def sample(self, hidden: Tensor, sampler_row: SamplerRow) -> SampledToken:
        """Return the next token behind `hidden`, `[hidden_size]`, with its embedding.

        Raises:
            BadHiddenStatesError: the logits are not finite.
            OverloadedError, EngineStoppedError, HeadFailedError: see the classes.
        """
        result: asyncio.Future[SampledToken] = asyncio.get_running_loop().create_future()
        self._submit(HeadJob(HeadRow(hidden, sampler_row), perf_counter(), result))
        return await result

    async def close(self) -> None:
        """Finish what waits, then end the threads. Idempotent."""
        await asyncio.gather(*(replica.close() for replica in self._replicas))

    def _submit(self, job: Job) -> None:
        if self.num_waiting >= self._max_waiting:
            raise OverloadedError(self._max_waiting)
        min(self._replicas, key=lambda replica: replica.num_waiting).submit(job)
