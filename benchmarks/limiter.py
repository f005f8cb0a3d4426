"""What does one decision of the limiter cost, with Redis on loopback?

A decision is one call for all limits of a request. `all_limits` are those of a caller whose key
limits everything: requests, tokens, budget and streams of the key, tokens and streams of the
address; settling it is another call of the same size.
"""

import argparse
import statistics
from collections.abc import Sequence
from time import perf_counter, time
from typing import Final

import uvloop

from app.state.rate_limits import Budget, Limit, PlaceLimit, RateLimit, RequestLimit
from app.state.store import open_state_store
from benchmarks.report import print_report
from tests.harness.redis_server import redis_server

_MOST: Final = 10_000_000
_LIMITS: Final[tuple[Limit, ...]] = (
    RateLimit("key", "bench", tokens_per_minute=_MOST, burst_tokens=_MOST),
    RateLimit("address", "bench", tokens_per_minute=_MOST, burst_tokens=_MOST),
    RequestLimit("key_requests", "bench", requests_per_minute=_MOST),
    Budget("key_budget", "bench", 2**50, window="now", ends_at=int(time()) + 86_400),
    PlaceLimit("key_streams", "bench", max_places=1000),
    PlaceLimit("address_streams", "bench", max_places=1000),
)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decisions", type=int, default=3000, help="one after the other")
    arguments = parser.parse_args()
    with redis_server() as redis:
        results = {
            name: uvloop.run(measure(redis.url, limits, arguments.decisions))
            for name, limits in (
                ("1_limit", _LIMITS[:1]),
                ("2_limits", _LIMITS[:2]),
                ("all_limits", _LIMITS),
            )
        }
    print_report("limiter", results)


async def measure(url: str, limits: Sequence[Limit], num_decisions: int) -> dict[str, float]:
    """Return quantiles of the time of one decision and of one settlement, in milliseconds."""
    store = open_state_store(url)
    reserved_ms: list[float] = []
    settled_ms: list[float] = []
    try:
        for _ in range(num_decisions):
            began_at = perf_counter()
            reservation = await store.rate_limiter.reserve(limits, 10)
            decided_at = perf_counter()
            await store.rate_limiter.settle(reservation, 10)
            settled_ms.append((perf_counter() - decided_at) * 1000)
            reserved_ms.append((decided_at - began_at) * 1000)
    finally:
        await store.close()
    return {**_quantiles("decision", reserved_ms), **_quantiles("settlement", settled_ms)}


def _quantiles(name: str, took_ms: Sequence[float]) -> dict[str, float]:
    cuts = statistics.quantiles(took_ms, n=100)
    return {f"{name}_p50_ms": round(cuts[49], 3), f"{name}_p99_ms": round(cuts[98], 3)}


if __name__ == "__main__":
    main()
