"""What does one rate-limit decision cost, with Redis on loopback?"""

import argparse
import statistics
from time import perf_counter

import uvloop

from app.state.rate_limits import RateLimit
from app.state.store import open_state_store
from benchmarks.report import print_report
from tests.harness.redis_server import redis_server

_LIMIT = {"tokens_per_minute": 10_000_000, "burst_tokens": 10_000_000}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decisions", type=int, default=3000, help="one after the other")
    arguments = parser.parse_args()
    with redis_server() as redis:
        results = {
            f"{num_limits}_limits": uvloop.run(measure(redis.url, num_limits, arguments.decisions))
            for num_limits in (1, 2)
        }
    print_report("rate_limiter", results)


async def measure(url: str, num_limits: int, num_decisions: int) -> dict[str, float]:
    """Return quantiles of the time of one decision, in milliseconds."""
    limits = [RateLimit(name=f"limit{i}", subject="bench", **_LIMIT) for i in range(num_limits)]
    store = open_state_store(url)
    took_ms: list[float] = []
    try:
        for _ in range(num_decisions):
            started_at = perf_counter()
            await store.rate_limiter.reserve(limits, 10)
            took_ms.append((perf_counter() - started_at) * 1000)
    finally:
        await store.close()
    cuts = statistics.quantiles(took_ms, n=100)
    return {"p50_ms": round(cuts[49], 3), "p99_ms": round(cuts[98], 3)}


if __name__ == "__main__":
    main()
