"""Which dtype a CPU multiplies faster, found out briefly when a server starts."""

from collections.abc import Callable
from time import thread_time
from typing import Final

import torch

from swarm_kernels import fastest_of, mixed_rows
from swarm_protocol.logs import get_logger
from swarm_server.engine.linear import make_linear

log = get_logger(__name__)

_NUM_INPUTS: Final = 1024
_NUM_OUTPUTS: Final = 2816


def faster_cpu_dtype(*, clock: Callable[[], float] = thread_time) -> torch.dtype:
    """Return bfloat16 or float32, for weights of 16 bits; takes a few tenths of a second.

    Compared are rows in different numbers through one layer of a small model.
    """
    dtypes = {"bfloat16": torch.bfloat16, "float32": torch.float32}
    ways = {
        name: mixed_rows(
            make_linear(torch.ones(_NUM_OUTPUTS, _NUM_INPUTS, dtype=dtype)), _NUM_INPUTS, dtype
        )
        for name, dtype in dtypes.items()
    }
    fastest = fastest_of(ways, clock=clock)
    log.info("cpu_dtype_chosen", dtype=fastest.name, **fastest.took_ms)
    return dtypes[fastest.name]
