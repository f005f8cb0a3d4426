"""What every benchmark prints beside its numbers: the machine, the versions, the commit."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]


def print_report(benchmark: str, results: Mapping[str, object]) -> None:
    """Print one JSON object with the results and where they come from."""
    report = {"benchmark": benchmark, "results": results, "machine": describe_machine()}
    print(json.dumps(report, indent=2))


def describe_machine() -> dict[str, object]:
    """Return processor, number of cores, versions and commit."""
    return {
        "processor": _processor(),
        "num_cores": os.cpu_count(),
        "load_1min": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "commit": _commit(),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()
