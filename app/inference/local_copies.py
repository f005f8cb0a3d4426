"""The copies of a model's local parts: one per device, planned before anything is loaded."""

from dataclasses import dataclass

import torch

from app.inference.errors import NoDeviceError
from app.inference.settings import EngineSettings
from swarm_client.models import LocalParts, ModelFacts, load_local_parts
from swarm_client.models.heads import HeadKind, choose_head
from swarm_client.models.local_size import local_bytes
from swarm_protocol.checkpoint import Checkpoint, choose_dtype, leaves_choice


@dataclass(frozen=True, slots=True)
class CopyPlan:
    """One copy; `head` None is one of the weights' own dtype."""

    device: str
    dtype: torch.dtype
    head: HeadKind | None
    num_bytes: int


def plan_copies(
    checkpoint: Checkpoint, facts: ModelFacts, settings: EngineSettings
) -> tuple[CopyPlan, ...]:
    """Return a copy for each device; may measure heads, so not for an event loop.

    Raises:
        NoDeviceError: there is no such device.
        CheckpointError: a dtype or a head does not go with a device.
    """
    for device in settings.devices:
        _check_device(device)
    return tuple(_plan(checkpoint, facts, settings, device) for device in settings.devices)


def load_copies(checkpoint: Checkpoint, plans: tuple[CopyPlan, ...]) -> tuple[LocalParts, ...]:
    """Load them, one after the other; not for an event loop.

    Raises:
        CheckpointError: a tensor is missing, damaged or of a wrong shape.
    """
    return tuple(_load(checkpoint, plan) for plan in plans)


def _check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch raises either
        raise NoDeviceError(device) from error


def _plan(
    checkpoint: Checkpoint, facts: ModelFacts, settings: EngineSettings, device: str
) -> CopyPlan:
    asked = (settings.dtype, checkpoint.dtype_name, device)
    # Of 16 bits on a CPU only the head's arithmetic costs time, and that is measured next.
    dtype = torch.bfloat16 if leaves_choice(*asked) else choose_dtype(*asked)
    head = choose_head(settings.head, dtype, device, facts.hidden_size)
    num_bytes = local_bytes(checkpoint, facts, head, dtype=dtype, device=device)
    return CopyPlan(device, dtype, head, num_bytes)


def _load(checkpoint: Checkpoint, plan: CopyPlan) -> LocalParts:
    parts = load_local_parts(checkpoint, dtype=plan.dtype, device=plan.device)
    parts.use_head(plan.head)
    return parts
