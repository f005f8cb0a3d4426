"""What lies in huge pages is what it was."""

from pathlib import Path

import pytest
import torch

from swarm_kernels.huge_pages import in_huge_pages

NUMBERS_OF_8_MIB = 2 << 20


@pytest.mark.parametrize("num_rows", [1, 5, 1001])
def test_all_numbers_are_there_and_lie_together(num_rows: int) -> None:
    """Larger and smaller than a huge page, also of a tensor that is turned."""
    tensor = torch.arange(num_rows * 1001, dtype=torch.int32).view(num_rows, 1001).t()

    copy = in_huge_pages(tensor)

    assert copy.is_contiguous()
    assert torch.equal(copy, tensor)


def test_large_tensors_get_huge_pages() -> None:
    """As far as the system tells, and wants to give some."""
    wanted = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not wanted.exists() or "[never]" in wanted.read_text():
        pytest.skip("no huge pages here")
    before_kib = huge_kib()

    copy = in_huge_pages(torch.ones(NUMBERS_OF_8_MIB, dtype=torch.int32))

    assert huge_kib() - before_kib >= 2 << 10
    assert copy.sum() == NUMBERS_OF_8_MIB


def huge_kib() -> int:
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("AnonHugePages:"):
            return int(line.split()[1])
    return 0
