"""What a CPU multiplies with: weights laid out for its products, and C files built for it.

Entry points: `pack_weight` lays a weight out in the way that is fastest here, `build_library`
compiles C files for this very processor, `fastest_of` compares ways to compute the same.
Knows tensors; nothing of models, sessions or the wire.
"""

from swarm_kernels.build import BuildError, build_library
from swarm_kernels.measuring import fastest_of, mixed_rows
from swarm_kernels.packed_weight import PackedWeight, can_pack, pack_weight

__all__ = [
    "BuildError",
    "PackedWeight",
    "build_library",
    "can_pack",
    "fastest_of",
    "mixed_rows",
    "pack_weight",
]
