"""Attention of single new tokens over keys and values in pages, in C: see decode_attention.c."""

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

_SOURCE: Final = Path(__file__).with_suffix(".c")


@dataclass(frozen=True, slots=True)
class DecodeRows:
    """One new token each of several sequences, and where their keys and values lie.

    All are int32 on the CPU and contiguous. `tables` [num_rows, table_width] hold the page of each
    `page_size` positions; pages before `first_keys` are not looked at. `first_keys` and `lengths`
    [num_rows]: row i looks at positions [first_keys[i], lengths[i]); the last is its own, whose
    keys and values are in its page already.
    """

    tables: Tensor
    first_keys: Tensor
    lengths: Tensor
    max_length: int


@dataclass(frozen=True, slots=True)
class DecodeHeads:
    """The heads of one kind of block. `biases`: float32 [num_heads, any length], by position."""

    num_heads: int
    num_kv_heads: int
    head_dim: int
    scale: float
    biases: Tensor | None = None


class _Batch(Structure):
    """`struct attention_batch`."""

    _fields_ = (
        ("num_rows", c_int64),
        ("num_heads", c_int64),
        ("num_kv_heads", c_int64),
        ("head_dim", c_int64),
        ("page_size", c_int64),
        ("table_width", c_int64),
        ("query_stride", c_int64),
        ("scores_stride", c_int64),
        ("tables", c_void_p),
        ("first_keys", c_void_p),
        ("lengths", c_void_p),
        ("biases", c_void_p),
        ("biases_stride", c_int64),
        ("scores", c_void_p),
        ("scale", c_float),
        ("num_threads", c_int32),
    )


class DecodeAttention:
    """The attention of some rows in blocks of one kind; made once for all of them."""

    def __init__(self, library: CDLL, rows: DecodeRows, heads: DecodeHeads) -> None:
        self._library = library
        self._rows = rows  # the structure points into these
        self._heads = heads
        num_rows, table_width = rows.tables.shape
        self._scores = torch.empty(num_rows, heads.num_heads * rows.max_length)
        biases = heads.biases
        assert biases is None or biases.shape[-1] >= rows.max_length
        self._batch = _Batch(
            num_rows=num_rows,
            num_heads=heads.num_heads,
            num_kv_heads=heads.num_kv_heads,
            head_dim=heads.head_dim,
            table_width=table_width,
            scores_stride=self._scores.shape[1],
            tables=rows.tables.data_ptr(),
            first_keys=rows.first_keys.data_ptr(),
            lengths=rows.lengths.data_ptr(),
            biases=None if biases is None else biases.data_ptr(),
            biases_stride=0 if biases is None else biases.stride(0),
            scores=self._scores.data_ptr(),
            scale=heads.scale,
        )

    def attend(self, queries: Tensor, pages: Tensor) -> Tensor:
        """Return the outputs, [num_rows, num_heads * head_dim].

        Args:
            queries: [num_rows, num_heads, head_dim], float32 or bfloat16; rows may lie apart, the
                heads of a row lie together.
            pages: [num_pages, page_size, 2 * num_kv_heads, head_dim] of the same dtype, contiguous,
                keys before values.
        """
        heads, batch = self._heads, self._batch
        assert queries.dtype == pages.dtype
        assert pages.is_contiguous()
        assert queries.shape == (batch.num_rows, heads.num_heads, heads.head_dim)
        assert queries.stride()[1:] == (heads.head_dim, 1)
        outputs = queries.new_empty(batch.num_rows, heads.num_heads * heads.head_dim)
        batch.page_size = pages.shape[1]
        batch.query_stride = queries.stride(0)
        batch.num_threads = torch.get_num_threads()
        attend = (
            self._library.attend_float32
            if pages.dtype == torch.float32
            else self._library.attend_bfloat16
        )
        attend(
            byref(batch),
            c_void_p(pages.data_ptr()),
            c_void_p(queries.data_ptr()),
            c_void_p(outputs.data_ptr()),
        )
        return outputs


class DecodeKernel:
    """The built kernel. Calls let other Python threads run."""

    dtypes: Final = frozenset({torch.float32, torch.bfloat16})

    def __init__(self, library: CDLL) -> None:
        library.attend_float32.restype = None
        library.attend_bfloat16.restype = None
        self._library = library

    def prepare(self, rows: DecodeRows, heads: DecodeHeads) -> DecodeAttention:
        """Return the attention of these rows in blocks with such heads."""
        return DecodeAttention(self._library, rows, heads)


@cache
def load_decode_kernel(cache_directory: Path | None = None) -> DecodeKernel | None:
    """Return the kernel, built if need be; None, once said in the log, where that is impossible.

    Args:
        cache_directory: see `build_library`.
    """
    try:
        return DecodeKernel(build_library(_SOURCE, cache_directory))
    except BuildError as error:
        log.warning("decode_kernel_unavailable", reason=str(error))
        return None
