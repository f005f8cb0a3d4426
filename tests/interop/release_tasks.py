"""Tasks for the client of the release, beyond what `interop.py` can ask of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any  # arguments and results of functions that are not typed

import torch

from tests.harness import petals

_PROGRAM = Path(__file__).with_name("release_client.py")

Task = tuple[str, Mapping[str, Any]]
"""The name of a function of `release_client`, and its arguments but the model."""


async def run_tasks(
    model: Path, dht_prefix: str, maddrs: tuple[str, ...], *tasks: Task
) -> list[Any]:
    """Let one client do the tasks in a swarm, and return what the functions return."""
    given, answers = model.parent / "tasks.pt", model.parent / "answers.pt"
    torch.save(tasks, given)
    await petals.run_program(
        *(str(_PROGRAM), str(model), dht_prefix, str(given), str(answers), *maddrs)
    )
    return list(torch.load(answers))
