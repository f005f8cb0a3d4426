"""Keys and values of one session, in memory that grows with it."""

import torch
from torch import Tensor

_GROWTH_TOKENS = 64


class SessionKV:
    """KV cache of one session over some blocks. Not thread-safe: the compute thread's.

    A step calls `extend`, then `write` once per block, then `advance`. Storage is one tensor,
    [num_blocks, batch, 2 * num_kv_heads, capacity, head_dim], keys before values. Its capacity
    doubles when it is full, up to `max_length`, so a session costs what it uses.
    """

    def __init__(
        self,
        *,
        num_blocks: int,
        batch_size: int,
        num_kv_heads: int,
        head_dim: int,
        max_length: int,
        dtype: torch.dtype,
        device: str = "cpu",
    ) -> None:
        self.position = 0
        self.max_length = max_length
        self._end = 0  # position + tokens of the running step
        self._num_kv_heads = num_kv_heads
        shape = (num_blocks, batch_size, 2 * num_kv_heads, 0, head_dim)
        self._use(torch.empty(shape, dtype=dtype, device=device))

    @property
    def capacity(self) -> int:
        """Tokens for which memory is held now."""
        return self._storage.shape[3]

    def extend(self, num_tokens: int) -> None:
        """Make room for the next `num_tokens`, which the caller knows to fit `max_length`."""
        end = self.position + num_tokens
        assert end <= self.max_length
        if end > self.capacity:
            self._grow(end)
        self._end = end

    def write(self, block_index: int, keys_values: Tensor) -> tuple[Tensor, Tensor]:
        """Store the step's keys and values; see `engine.attention.KVWriter`."""
        both, keys, values = self._views[block_index]
        num_tokens = self._end - self.position
        both.narrow(2, self.position, num_tokens).copy_(keys_values.transpose(1, 2))
        return keys.narrow(2, 0, self._end), values.narrow(2, 0, self._end)

    def advance(self) -> None:
        """Count the running step's tokens as done."""
        self.position = self._end

    def truncate(self, position: int) -> None:
        """Forget everything from `position` on; 0 <= position <= the current one."""
        assert 0 <= position <= self.position
        self.position = self._end = position

    def reorder(self, hypo_ids: Tensor) -> None:
        """Let row i continue what row `hypo_ids[i]` has been; int64 [batch], all in range."""
        live = self._storage[:, :, :, : self.position]
        rows = hypo_ids.to(self._storage.device)
        self._storage[:, :, :, : self.position] = live.index_select(1, rows)

    def check_integrity(self) -> None:
        """Assert what holds between steps."""
        assert 0 <= self.position == self._end <= self.capacity <= self.max_length

    def _grow(self, needed: int) -> None:
        rounded = -(-needed // _GROWTH_TOKENS) * _GROWTH_TOKENS
        capacity = min(self.max_length, max(rounded, 2 * self.capacity))
        shape = list(self._storage.shape)
        shape[3] = capacity
        grown = self._storage.new_empty(shape)
        grown[:, :, :, : self.position] = self._storage[:, :, :, : self.position]
        self._use(grown)

    def _use(self, storage: Tensor) -> None:
        heads = self._num_kv_heads
        self._storage = storage
        self._views = [(both, both[:, :heads], both[:, heads:]) for both in storage.unbind()]
