"""Measuring a span at start."""

from itertools import count
from pathlib import Path

from swarm_server.engine.measuring import SpanSpeed, measure_speed
from tests.unit.swarm_server.llama_models import load_all, save_llama


def test_speed_is_per_block(tmp_path: Path) -> None:
    """With a clock that ticks one hundredth of a second per reading, three blocks give this."""
    save_llama(tmp_path)
    ticks = count()

    speed = measure_speed(load_all(tmp_path), clock=lambda: next(ticks) / 100)

    assert round(speed.prefill_rps) == 64 * 3 * 100
    assert round(speed.decode_rps) == 3 * 100


def test_measuring_ends_when_its_time_is_up(tmp_path: Path) -> None:
    """A slow span is asked for one token only."""
    save_llama(tmp_path)
    ticks = count()

    measure_speed(load_all(tmp_path), clock=lambda: next(ticks) * 10.0)

    assert next(ticks) == 3


def test_throughput_is_petals_formula() -> None:
    """Chunk speed of one block, divided by the average number of blocks a request uses."""
    assert SpanSpeed(decode_rps=1.0, prefill_rps=90.0).throughput(8) == 20.0
