"""Attention over keys and values in pages, in C: see attention.c."""

from ctypes import CDLL, Structure, byref, c_float, c_int32, c_int64, c_void_p
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from swarm_kernels import BuildError, build_library
from swarm_protocol.logs import get_logger

log = get_logger(__name__)

_DIRECTORY: Final = Path(__file__).parent

SOURCES: Final = tuple(
    _DIRECTORY / name for name in ("attention.c", "token_attention.c", "tile_attention.c")
)
_NO_WINDOW: Final = 2**62


@dataclass(frozen=True, slots=True)
class PagedSegments:
    """Consecutive tokens of some sequences, and where their keys and values lie.

    All are int32 on the CPU and contiguous. `tables` [num_segments, table_width] hold the page of
    each `page_size` positions; pages that are behind the window of all tokens of a segment are not
    looked at. Segment i has tokens [starts[i], starts[i + 1]) of the batch, the first of them at
    `positions[i]` of its sequence; `starts` begins with zero. The keys and values of the tokens are
    in their pages already.
    """

    tables: Tensor
    starts: Tensor
    positions: Tensor
    max_length: int


@dataclass(frozen=True, slots=True)
class AttentionHeads:
    """The heads of one kind of block.

    `window`: how many positions a token looks at, its own with them; None is all up to it.
    `biases`: float32 [num_heads, any length], by position.
    """

    num_heads: int
    num_kv_heads: int
    head_dim: int
    scale: float
    window: int | None = None
    biases: Tensor | None = None


class _Batch(Structure):
    """`struct attention_batch`."""

    _fields_ = (
        ("num_segments", c_int64),
        ("num_heads", c_int64),
        ("num_kv_heads", c_int64),
        ("head_dim", c_int64),
        ("page_size", c_int64),
        ("table_width", c_int64),
        ("query_stride", c_int64),
        ("window", c_int64),
        ("tables", c_void_p),
        ("starts", c_void_p),
        ("positions", c_void_p),
        ("biases", c_void_p),
        ("biases_stride", c_int64),
        ("scale", c_float),
        ("num_threads", c_int32),
        ("is_wide", c_int32),
    )


class KernelAttention:
    """The attention of some segments in blocks of one kind; made once for all of them."""

    def __init__(self, library: CDLL, segments: PagedSegments, heads: AttentionHeads) -> None:
        self._library = library
        self._segments = segments  # the structure points into these
        self._heads = heads
        self._num_tokens = int(segments.starts[-1])
        num_segments, table_width = segments.tables.shape
        biases = heads.biases
        assert biases is None or biases.shape[-1] >= segments.max_length
        self._batch = _Batch(
            num_segments=num_segments,
            num_heads=heads.num_heads,
            num_kv_heads=heads.num_kv_heads,
            head_dim=heads.head_dim,
            table_width=table_width,
            window=_NO_WINDOW if heads.window is None else heads.window,
            tables=segments.tables.data_ptr(),
            starts=segments.starts.data_ptr(),
            positions=segments.positions.data_ptr(),
            biases=None if biases is None else biases.data_ptr(),
            biases_stride=0 if biases is None else biases.stride(0),
            scale=heads.scale,
        )

    def attend(self, queries: Tensor, pages: Tensor) -> Tensor:
        """Return the outputs, [num_tokens, num_heads * head_dim].

        Args:
            queries: [num_tokens, num_heads, head_dim], float32 or bfloat16; tokens may lie apart,
                the heads of a token lie together.
            pages: [num_pages, page_size, 2 * num_kv_heads, head_dim] of the same dtype, contiguous,
                keys before values.
        """
        heads, batch = self._heads, self._batch
        assert queries.dtype == pages.dtype
        assert pages.is_contiguous()
        assert queries.shape == (self._num_tokens, heads.num_heads, heads.head_dim)
        assert queries.stride()[1:] == (heads.head_dim, 1)
        outputs = queries.new_empty(self._num_tokens, heads.num_heads * heads.head_dim)
        batch.page_size = pages.shape[1]
        batch.query_stride = queries.stride(0)
        batch.num_threads = torch.get_num_threads()
        batch.is_wide = pages.dtype == torch.float32
        self._library.attend(
            byref(batch),
            c_void_p(pages.data_ptr()),
            c_void_p(queries.data_ptr()),
            c_void_p(outputs.data_ptr()),
        )
        return outputs


class AttentionKernel:
    """The built kernel. Calls let other Python threads run."""

    dtypes: Final = frozenset({torch.float32, torch.bfloat16})

    def __init__(self, library: CDLL) -> None:
        library.attend.restype = None
        self._library = library

    def prepare(self, segments: PagedSegments, heads: AttentionHeads) -> KernelAttention:
        """Return the attention of these segments in blocks with such heads."""
        return KernelAttention(self._library, segments, heads)


@cache
def load_attention_kernel(cache_directory: Path | None = None) -> AttentionKernel | None:
    """Return the kernel, built if need be; None, once said in the log, where that is impossible.

    Args:
        cache_directory: see `build_library`.
    """
    try:
        return AttentionKernel(build_library(*SOURCES, cache=cache_directory))
    except BuildError as error:
        log.warning("attention_kernel_unavailable", reason=str(error))
        return None
