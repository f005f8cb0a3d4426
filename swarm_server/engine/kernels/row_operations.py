"""What a block does to each bfloat16 token alone, in C: see row_operations.c."""

from ctypes import CDLL, c_float, c_int32, c_int64, c_void_p
from functools import cache
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from swarm_kernels import BuildError, build_library
from swarm_protocol.logs import get_logger

log = get_logger(__name__)

SOURCE: Final = Path(__file__).with_suffix(".c")


class RowOperations:
    """The built operations, unknown to autograd. Calls let other Python threads run."""

    def __init__(self, library: CDLL) -> None:
        self._rms_norm = library.rms_norm
        self._rms_norm.argtypes = [c_void_p, c_void_p, c_void_p, c_int64, c_int64, c_float, c_int32]
        self._rms_norm.restype = None
        self._rotate = library.rotate
        self._rotate.argtypes = [
            c_void_p,
            c_void_p,
            c_void_p,
            c_int64,
            c_int64,
            c_int64,
            c_int64,
            c_int32,
        ]
        self._rotate.restype = None
        self._gate = library.gate
        self._gate.argtypes = [c_void_p, c_void_p, c_int64, c_int64, c_int32]
        self._gate.restype = None
        self._store = library.store_rows
        self._store.argtypes = [c_void_p, c_void_p, c_void_p, c_int64, c_int64, c_int64, c_int32]
        self._store.restype = None

    def rms_norm(self, rows: Tensor, weight: Tensor, eps: float) -> Tensor:
        """Return what `engine.norms.RMSNorm` does; rows [num_rows, size] and weight contiguous."""
        assert rows.is_contiguous()
        outputs = torch.empty_like(rows)
        num_rows, size = rows.shape
        self._rms_norm(
            rows.data_ptr(),
            weight.data_ptr(),
            outputs.data_ptr(),
            num_rows,
            size,
            eps,
            torch.get_num_threads(),
        )
        return outputs

    def rotate(self, heads: Tensor, cos: Tensor, sin: Tensor) -> None:
        """Rotate heads in place; see `engine.rope.rotate_in_place`. Rows may lie apart."""
        num_rows, num_heads, head_dim = heads.shape
        assert heads.stride()[1:] == (head_dim, 1)
        self._rotate(
            heads.data_ptr(),
            cos.data_ptr(),
            sin.data_ptr(),
            num_rows,
            heads.stride(0),
            num_heads,
            head_dim,
            torch.get_num_threads(),
        )

    def gate(self, gates_ups: Tensor) -> Tensor:
        """Return `silu(gates) * ups`, [num_rows, size], of [num_rows, 2 * size], contiguous."""
        assert gates_ups.is_contiguous()
        num_rows, width = gates_ups.shape
        outputs = gates_ups.new_empty(num_rows, width // 2)
        self._gate(
            gates_ups.data_ptr(),
            outputs.data_ptr(),
            num_rows,
            width // 2,
            torch.get_num_threads(),
        )
        return outputs

    def store(self, rows: Tensor, places: Tensor, slots: Tensor) -> None:
        """Let `slots[places[i]]` be `rows[i]`.

        Args:
            rows: [num_rows, num_heads, head_dim]; rows may lie apart, but not their heads.
            places: int64 [num_rows], contiguous, each another one.
            slots: [any number, num_heads, head_dim], contiguous.
        """
        num_rows, num_heads, head_dim = rows.shape
        assert slots.is_contiguous()
        assert slots.shape[1:] == rows.shape[1:]
        assert rows.stride()[1:] == (head_dim, 1)
        self._store(
            rows.data_ptr(),
            places.data_ptr(),
            slots.data_ptr(),
            num_rows,
            rows.stride(0) * rows.itemsize,
            num_heads * head_dim * rows.itemsize,
            torch.get_num_threads(),
        )


def row_operations(rows: Tensor) -> RowOperations | None:
    """Return the operations for rows like these; None where torch must do.

    That is where there are gradients to be had, for other dtypes and devices (float32 keeps the
    roundings of torch), and without a compiler.
    """
    if rows.dtype != torch.bfloat16 or rows.device.type != "cpu" or torch.is_grad_enabled():
        return None
    return _load()


@cache
def _load() -> RowOperations | None:
    try:
        return RowOperations(build_library(SOURCE))
    except BuildError as error:
        log.warning("row_operations_unavailable", reason=str(error))
        return None
