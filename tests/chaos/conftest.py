"""One swarm of three stages, two servers each, for all tests that kill servers."""

from collections.abc import Iterator

import pytest

from tests.harness.churn_swarm import ChurnSwarm
from tests.harness.programs import DEMO_MODEL

SPANS = ("0:3", "3:6", "6:8")


@pytest.fixture(scope="session")
def shared_swarm() -> Iterator[ChurnSwarm]:
    with ChurnSwarm(DEMO_MODEL, SPANS, dtype="float32", is_prepared=True) as swarm:
        yield swarm


@pytest.fixture
def swarm(shared_swarm: ChurnSwarm) -> ChurnSwarm:
    """All its servers are there: those that tests before have killed are started again."""
    shared_swarm.restore()
    return shared_swarm
