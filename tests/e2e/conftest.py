"""One running product for all modules that only use it."""

from collections.abc import Iterator

import pytest

from tests.harness.product import Product, running_product


@pytest.fixture(scope="session")
def product() -> Iterator[Product]:
    """A gateway with Redis and two servers; do not break it."""
    with running_product() as running:
        yield running
