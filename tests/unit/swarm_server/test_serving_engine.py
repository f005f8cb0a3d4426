"""What the engine of a server is made of."""

import pytest

from swarm_server.engine.measuring import SpanSpeed
from swarm_server.serving_engine import choose_chunk
from swarm_server.settings import ServerSettings


@pytest.mark.parametrize(
    ("prefill_rps", "expected"),
    [(8_000, 50), (1_000_000, 2048), (100, 16)],
)
def test_a_chunk_takes_about_the_time_allowed(prefill_rps: float, expected: int) -> None:
    """Within what a batch may have, and not so little that its overhead counts."""
    settings = ServerSettings(model="-", max_chunk_ms=50, max_batch_tokens=2048)

    assert choose_chunk(SpanSpeed(1.0, prefill_rps), 8, settings) == expected
