"""The memory behind the pages of a span: keys and values."""

from collections.abc import Sequence

import torch
from torch import Tensor

from swarm_server.kv.layout import KVLayout
from swarm_server.kv.pages import PageCopy


class PageStorage:
    """Keys and values of all sequences. For the compute thread only.

    One tensor for each place in a layout group, [num_pages, page_size, 2 * num_kv_heads, head_dim],
    keys before values. Memory is reserved, not touched: on a CPU a page costs nothing before
    something is written to it.
    """

    def __init__(
        self,
        layout: KVLayout,
        num_pages: int,
        *,
        num_kv_heads: int,
        head_dim: int,
        dtype: torch.dtype,
        device: str = "cpu",
    ) -> None:
        self.layout = layout
        shape = (num_pages, layout.page_size, 2 * num_kv_heads, head_dim)
        self._places = [
            torch.empty(shape, dtype=dtype, device=device) for _ in range(layout.group_size)
        ]

    def pages_of(self, block_index: int) -> Tensor:
        """Return where a block's keys and values are; its group's page tables say which pages."""
        return self._places[self.layout.group_of(block_index)[1]]

    def copy_pages(self, copies: Sequence[PageCopy]) -> None:
        """Copy whole pages, one copy after the other."""
        for copy in copies:
            for pages in self._places:
                pages[copy.target] = pages[copy.source]
