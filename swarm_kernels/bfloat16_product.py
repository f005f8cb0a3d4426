"""Products with bfloat16 weights in C, summed up in float32: see bfloat16_product.c."""

from ctypes import CDLL, Structure, byref, c_int32, c_int64, c_void_p
from functools import cache
from pathlib import Path
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import pad

from swarm_kernels.build import BuildError, build_library
from swarm_protocol.logs import get_logger

log = get_logger(__name__)

SOURCE: Final = Path(__file__).with_suffix(".c")


class _Weight(Structure):
    """`struct packed_weight`."""

    _fields_ = (
        ("pairs", c_void_p),
        ("bias", c_void_p),
        ("num_outputs", c_int64),
        ("num_inputs", c_int64),
    )


class Bfloat16Product:
    """The built products. Calls let other Python threads run."""

    def __init__(self, library: CDLL) -> None:
        library.panel_outputs.restype = c_int64
        library.group_panels.restype = c_int64
        self._panel_outputs = int(library.panel_outputs())
        self._group_outputs = self._panel_outputs * int(library.group_panels())
        self.multiply = library.multiply_rows
        self.multiply.argtypes = [
            c_void_p,
            *(c_void_p, c_int32),
            *(c_void_p, c_int32),
            *(c_int64, c_int32),
        ]

    def pack(self, weight: Tensor) -> Tensor:
        """Return a weight `[num_outputs, num_inputs]` in panels: int32, two inputs in each.

        `[num_panels, num_pairs, panel_outputs]`, with zeros where the weight ends.
        """
        num_outputs, num_inputs = weight.shape
        padding = (0, num_inputs % 2, 0, -num_outputs % self._group_outputs)
        pairs = pad(weight, padding).contiguous().view(torch.int32)
        panels = pairs.view(-1, self._panel_outputs, pairs.shape[1])
        return panels.transpose(1, 2).contiguous()


class InterleavedWeight:
    """A `PackedWeight` of bfloat16 for `Bfloat16Product`.

    A row's outputs do not depend on the rows beside it, to the last bit. Rows may be float32, too,
    and then are not rounded first.
    """

    def __init__(self, product: Bfloat16Product, weight: Tensor, bias: Tensor | None) -> None:
        """Take `[num_outputs, num_inputs]` in bfloat16 on the CPU; copies are kept."""
        self.num_outputs, self.num_inputs = weight.shape
        self._product = product
        self._panels = product.pack(weight)
        self._bias = None if bias is None else bias.float().contiguous()
        self._weight = _Weight(  # points into both
            pairs=self._panels.data_ptr(),
            bias=None if self._bias is None else self._bias.data_ptr(),
            num_outputs=self.num_outputs,
            num_inputs=self.num_inputs,
        )

    def multiply(self, rows: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Return the product; see `PackedWeight.multiply`."""
        dtype = dtype or rows.dtype
        assert {rows.dtype, dtype} <= {torch.bfloat16, torch.float32}
        assert rows.shape[-1] == self.num_inputs
        rows = rows.contiguous()
        outputs = torch.empty(*rows.shape[:-1], self.num_outputs, dtype=dtype)
        is_done = self._product.multiply(
            byref(self._weight),
            rows.data_ptr(),
            rows.dtype == torch.float32,
            outputs.data_ptr(),
            dtype == torch.float32,
            rows.numel() // self.num_inputs,
            torch.get_num_threads(),
        )
        if not is_done:
            raise MemoryError("no memory for the rows of a product")
        return outputs

    def unpack(self) -> Tensor:
        """Return the weight; see `PackedWeight.unpack`."""
        weight = self._panels.transpose(1, 2).flatten(0, 1).contiguous().view(torch.bfloat16)
        return weight[: self.num_outputs, : self.num_inputs].contiguous()


@cache
def load_bfloat16_product(cache_directory: Path | None = None) -> Bfloat16Product | None:
    """Return the products, built if need be; None, once said in the log, where they cannot be.

    Args:
        cache_directory: see `build_library`.
    """
    try:
        return Bfloat16Product(build_library(SOURCE, cache=cache_directory))
    except BuildError as error:
        log.warning("bfloat16_product_unavailable", reason=str(error))
        return None
