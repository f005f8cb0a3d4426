"""Measuring a span at start."""

from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from swarm_server.engine.eager_runner import EagerRunner
from swarm_server.engine.measuring import LEAST_TOKENS, SpanSpeed, measure_speed
from swarm_server.engine.page_storage import PageStorage
from swarm_server.kv import KVLayout
from tests.unit.swarm_server.llama_models import load_all, save_llama


def measure(
    directory: Path, clock: Callable[[], float], *, num_tokens: int = LEAST_TOKENS
) -> SpanSpeed:
    """Measure a small Llama on pages for so many tokens."""
    save_llama(directory)
    span = load_all(directory)
    layout = KVLayout(span.windows, page_size=16)
    shape = span.shape
    storage = PageStorage(
        layout,
        -(-num_tokens // 16),
        num_kv_heads=shape.num_kv_heads,
        head_dim=shape.head_dim,
        dtype=span.dtype,
    )
    return measure_speed(span, EagerRunner(span, storage), layout, num_tokens, clock=clock)


def test_speed_is_per_block(tmp_path: Path) -> None:
    """With a clock that ticks one hundredth of a second per reading, three blocks give this."""
    ticks = count()

    speed = measure(tmp_path, clock=lambda: next(ticks) / 100)

    assert round(speed.prefill_rps) == 64 * 3 * 100
    assert round(speed.decode_rps) == 3 * 100


@pytest.mark.parametrize(("num_tokens", "sizes"), [(LEAST_TOKENS, [32, 64]), (256, [32, 64, 256])])
def test_a_long_chunk_is_measured_where_it_has_room(
    tmp_path: Path, num_tokens: int, sizes: list[int]
) -> None:
    """Beside short ones, which every server has room for."""
    ticks = count()

    speed = measure(tmp_path, clock=lambda: next(ticks) / 100, num_tokens=num_tokens)

    assert [(tokens, round(took_s, 9)) for tokens, took_s in speed.chunks] == [
        (size, 0.01) for size in sizes
    ]


def test_measuring_ends_when_its_time_is_up(tmp_path: Path) -> None:
    """A slow span is asked for one chunk and one token only."""
    ticks = count()

    speed = measure(tmp_path, clock=lambda: next(ticks) * 10.0)

    assert speed.chunks == [(32, 10.0)]
    assert next(ticks) == 4


def test_throughput_is_petals_formula() -> None:
    """Chunk speed of one block, divided by the average number of blocks a request uses."""
    assert SpanSpeed(decode_rps=1.0, prefill_rps=90.0, chunks=[(64, 1.0)]).throughput(8) == 20.0
