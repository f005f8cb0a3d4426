"""Which dtype a model runs in, when nobody says."""

from functools import cache
from pathlib import Path

import torch

from swarm_protocol.errors import CheckpointError

_NAMES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_dtype(name: str, checkpoint_dtype: str | None, device: str) -> torch.dtype:
    """Return the dtype to compute in.

    Args:
        name: `float32`, `bfloat16`, `float16`, or `auto`: the checkpoint's own on an accelerator;
            on a CPU bfloat16 for 16-bit checkpoints where the processor multiplies it natively,
            else float32.
        checkpoint_dtype: as written in config.json, if it is.
        device: torch device, e.g. `cpu`.

    Raises:
        CheckpointError: an unknown name, or float16 on a CPU.
    """
    if name == "auto":
        return _automatic(checkpoint_dtype, device)
    if name not in _NAMES:
        raise CheckpointError(f"unknown dtype {name!r}; use auto or one of {', '.join(_NAMES)}")
    if name == "float16" and device == "cpu":
        raise CheckpointError("float16 is too slow on a CPU; use float32 or bfloat16")
    return _NAMES[name]


def leaves_choice(name: str, checkpoint_dtype: str | None, device: str) -> bool:
    """Tell whether both bfloat16 and float32 would do: for a CPU, 16 bits, and `auto`.

    Whoever can measure what is faster does not ask `choose_dtype` then.
    """
    stored = _NAMES.get(checkpoint_dtype or "float32", torch.float32)
    return name == "auto" and device == "cpu" and stored.itemsize == 2


def _automatic(checkpoint_dtype: str | None, device: str) -> torch.dtype:
    stored = _NAMES.get(checkpoint_dtype or "float32", torch.float32)
    if device != "cpu":
        return stored
    is_16_bit = stored.itemsize == 2
    return torch.bfloat16 if is_16_bit and _cpu_multiplies_bfloat16() else torch.float32


@cache
def _cpu_multiplies_bfloat16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
