"""One gateway for all that is thrown at it."""

from collections.abc import Iterator

import pytest

from tests.fuzz.fuzzed_gateway import FuzzedGateway, fuzzed_gateway


@pytest.fixture(scope="module")
def gateway() -> Iterator[FuzzedGateway]:
    """Restarted for each module."""
    with fuzzed_gateway() as running:
        yield running
