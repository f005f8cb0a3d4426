"""What the engine of a server is made of."""

import pytest

from swarm_server.engine.measuring import SpanSpeed
from swarm_server.serving_engine import choose_chunk
from swarm_server.settings import ServerSettings


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ([(64, 0.064)], 50),  # slow: one was enough
        ([(64, 0.030), (256, 0.078)], 144),  # 64 in 30 ms, then a quarter of a ms each
        ([(32, 0.020), (64, 0.030), (256, 0.078)], 144),
        ([(32, 0.029), (64, 0.058)], 32),  # no cheaper together
        ([(32, 0.020), (64, 0.032)], 112),
        ([(64, 0.060), (256, 0.156)], 53),
        ([(64, 0.100), (256, 0.080)], 32),  # disturbed
        ([(64, 0.040), (256, 0.040)], 192),  # disturbed, too: a token costs at least 5/64 ms
        ([(64, 0.001), (256, 0.002)], 2048),
        ([(64, 0.640)], 16),
    ],
)
def test_a_chunk_takes_about_the_time_allowed(
    chunks: list[tuple[int, float]], expected: int
) -> None:
    """Within what a batch may have, and not so little that its overhead counts."""
    settings = ServerSettings(model="-", max_chunk_ms=50, max_batch_tokens=2048)

    assert choose_chunk(SpanSpeed(1.0, 1.0, chunks), settings) == expected
