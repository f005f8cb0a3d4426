"""Kernels that begin before the one before them has ended.

A kernel that starts after the last program of the one before leaves the memory at rest for some
microseconds. A lone row's step is two hundred kernels that all wait for memory. From Hopper on a
kernel may be on the card already: its programs take the places that become free, do what needs no
results, such as reading weights, and then wait. Kernels that come early wait before they touch what
others write in the same step, so each may let the next one come at once.
With many rows it gains nothing (H200, 32 rows: 5.51 ms either way), and chunks lose 2 %.
Source: programmatic dependent launch, CUDA programming guide; `griddepcontrol` in PTX.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# ruff: noqa: N803  # constants of a kernel's build

from functools import cache

import torch
import triton  # type: ignore[import-not-found]
import triton.language as tl  # type: ignore[import-not-found]

_FIRST_CAPABILITY = (9, 0)


@triton.jit
def wait_for_others(EARLY: tl.constexpr):
    """Let the next kernel come, and wait until all before this one have written what they do."""
    if EARLY:
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()


@cache
def early_start(device: torch.device) -> dict[str, bool]:
    """Return the arguments, for kernels that call `wait_for_others`, which allow it on a card."""
    is_known = device.type == "cuda" and not torch.version.hip
    if is_known and torch.cuda.get_device_capability(device) >= _FIRST_CAPABILITY:
        return {"EARLY": True, "launch_pdl": True}
    return {"EARLY": False}
