"""Measuring a span at start."""

from collections.abc import Callable
from itertools import count
from pathlib import Path

from swarm_server.engine.eager_runner import EagerRunner
from swarm_server.engine.measuring import MEASURED_TOKENS, SpanSpeed, measure_speed
from swarm_server.engine.page_storage import PageStorage
from swarm_server.kv import KVLayout
from tests.unit.swarm_server.llama_models import load_all, save_llama


def measure(directory: Path, clock: Callable[[], float]) -> SpanSpeed:
    """Measure a small Llama on just as many pages as that takes."""
    save_llama(directory)
    span = load_all(directory)
    layout = KVLayout(span.windows, page_size=16)
    shape = span.shape
    storage = PageStorage(
        layout,
        -(-MEASURED_TOKENS // 16),
        num_kv_heads=shape.num_kv_heads,
        head_dim=shape.head_dim,
        dtype=span.dtype,
    )
    return measure_speed(span, EagerRunner(span, storage), layout, clock=clock)


def test_speed_is_per_block(tmp_path: Path) -> None:
    """With a clock that ticks one hundredth of a second per reading, three blocks give this."""
    ticks = count()

    speed = measure(tmp_path, clock=lambda: next(ticks) / 100)

    assert round(speed.prefill_rps) == 64 * 3 * 100
    assert round(speed.decode_rps) == 3 * 100


def test_measuring_ends_when_its_time_is_up(tmp_path: Path) -> None:
    """A slow span is asked for one token only."""
    ticks = count()

    measure(tmp_path, clock=lambda: next(ticks) * 10.0)

    assert next(ticks) == 3


def test_throughput_is_petals_formula() -> None:
    """Chunk speed of one block, divided by the average number of blocks a request uses."""
    assert SpanSpeed(decode_rps=1.0, prefill_rps=90.0).throughput(8) == 20.0
