"""Products with bfloat16 weights in C.

On any CPU with vectors, in float32: see bfloat16_product.c; on one with AMX: amx_product.c; on one
with VNNI, in integers: vnni_product.c.
"""

from ctypes import CDLL, Structure, byref, c_int32, c_int64, c_void_p
from functools import cache
from pathlib import Path
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import pad

from swarm_kernels.block_floats import from_block_floats, to_block_floats
from swarm_kernels.build import BuildError, build_library, describe_processor
from swarm_kernels.huge_pages import in_huge_pages
from swarm_protocol.logs import get_logger

log = get_logger(__name__)

SOURCE: Final = Path(__file__).with_suffix(".c")
AMX_SOURCE: Final = SOURCE.with_name("amx_product.c")
VNNI_SOURCE: Final = SOURCE.with_name("vnni_product.c")


class _Weight(Structure):
    """`struct packed_weight`."""

    _fields_ = (
        ("pairs", c_void_p),
        ("bias", c_void_p),
        ("num_outputs", c_int64),
        ("num_inputs", c_int64),
    )


class _Layout(Structure):
    """`struct layout`."""

    _fields_ = tuple(
        (name, c_int64)
        for name in (
            *("tile_outputs", "tile_inputs"),
            "group_panels",
            *("output_multiple", "input_multiple"),
            "has_scales",
        )
    )


class Bfloat16Product:
    """The built products. Calls let other Python threads run."""

    def __init__(self, library: CDLL) -> None:
        self._layout = _Layout()
        library.describe_layout.argtypes = [c_void_p]
        library.describe_layout(byref(self._layout))
        self.multiply = library.multiply_rows
        self.multiply.argtypes = [c_void_p, c_void_p, c_void_p, c_int32, c_int64, c_int32]

    @property
    def has_block_floats(self) -> bool:
        """Whether weights and rows are kept as integers with a scale: see `block_floats`."""
        return bool(self._layout.has_scales)

    def pack(self, weight: Tensor) -> Tensor:
        """Return a weight `[num_outputs, num_inputs]` in tiles: int32, two inputs in each.

        `[groups, tiles of a panel, panels of a group, pairs of inputs, outputs]`, with zeros where
        the weight ends. With scales there is one more "pair" in each tile.
        """
        layout, (num_outputs, num_inputs) = self._layout, weight.shape
        padding = (
            *(0, -num_inputs % layout.input_multiple),
            *(0, -num_outputs % layout.output_multiple),
        )
        outputs_first = self._in_tiles(pad(weight, padding).contiguous())
        shape = (-1, layout.group_panels, layout.tile_outputs, *outputs_first.shape[1:])
        return in_huge_pages(outputs_first.view(shape).permute(0, 3, 1, 4, 2))

    def _in_tiles(self, weight: Tensor) -> Tensor:
        """Return `[num_outputs, tiles, pairs]`."""
        size = self._layout.tile_inputs or weight.shape[1]
        if self.has_block_floats:
            return to_block_floats(weight, size)
        return weight.view(torch.int32).view(len(weight), -1, size // 2)

    def unpack(self, tiles: Tensor) -> Tensor:
        """Return what `pack` was given, with its zeros."""
        outputs_first = tiles.permute(0, 2, 4, 1, 3).flatten(0, 2)
        if self.has_block_floats:
            return from_block_floats(outputs_first)
        return outputs_first.flatten(1).contiguous().view(torch.bfloat16)


class InterleavedWeight:
    """A `PackedWeight` of bfloat16 for `Bfloat16Product`.

    A row's outputs do not depend on the rows beside it, to the last bit.
    """

    def __init__(self, product: Bfloat16Product, weight: Tensor, bias: Tensor | None) -> None:
        """Take `[num_outputs, num_inputs]` in bfloat16 on the CPU; copies are kept."""
        self.num_outputs, self.num_inputs = weight.shape
        self._product = product
        self._tiles = product.pack(weight)
        self._bias = None if bias is None else bias.float().contiguous()
        self._weight = _Weight(  # points into both
            pairs=self._tiles.data_ptr(),
            bias=None if self._bias is None else self._bias.data_ptr(),
            num_outputs=self.num_outputs,
            num_inputs=self.num_inputs,
        )

    def multiply(self, rows: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Return the product; see `PackedWeight.multiply`."""
        dtype = dtype or rows.dtype
        assert rows.dtype == torch.bfloat16
        assert dtype in (torch.bfloat16, torch.float32)
        assert rows.shape[-1] == self.num_inputs
        rows = rows.contiguous()
        outputs = torch.empty(*rows.shape[:-1], self.num_outputs, dtype=dtype)
        is_done = self._product.multiply(
            byref(self._weight),
            rows.data_ptr(),
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
        weight = self._product.unpack(self._tiles)
        return weight[: self.num_outputs, : self.num_inputs].contiguous()


@cache
def load_vector_product() -> Bfloat16Product | None:
    """Return products for any CPU, built if need be; None, said in the log, where that fails."""
    library = _built(SOURCE)
    return None if library is None else Bfloat16Product(library)


@cache
def load_vnni_product() -> Bfloat16Product | None:
    """Return products by VNNI; None where the processor has none, or they fail."""
    library = _built(VNNI_SOURCE) if "avx512_vnni" in describe_processor() else None
    return None if library is None else Bfloat16Product(library)


@cache
def load_amx_product() -> Bfloat16Product | None:
    """Return products by AMX; None where the processor or the system has none, or they fail."""
    library = _built(AMX_SOURCE) if "amx_bf16" in describe_processor() else None
    if library is None or not library.can_use_amx():
        return None
    return Bfloat16Product(library)


def _built(source: Path) -> CDLL | None:
    try:
        return build_library(source)
    except BuildError as error:
        log.warning("bfloat16_product_unavailable", product=source.stem, reason=str(error))
        return None
